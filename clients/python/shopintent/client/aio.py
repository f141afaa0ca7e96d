"""The asyncio client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import ParamSpec, Self, TypeVar, cast

import grpc

from shopintent.client import calls
from shopintent.client.aio_stream import AsyncIntentStream
from shopintent.client.channel import StreamChannels, open_aio_channel, token_metadata
from shopintent.client.conversation import Conversation
from shopintent.client.errors import FailedCall, decode
from shopintent.v1.catalog_service_pb2_grpc import CatalogServiceStub
from shopintent.v1.event_service_pb2_grpc import EventServiceStub
from shopintent.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from shopintent.v1.release_service_pb2_grpc import ReleaseServiceStub
from shopintent.v1.user_event_pb2 import Visitor
from shopintent.v1.visitor_service_pb2_grpc import VisitorServiceStub

P = ParamSpec("P")
Request = TypeVar("Request")
Response = TypeVar("Response")


class AsyncShopIntentClient:
    """One channel to one server; share it between tasks of one event loop and close it at the end.

    The methods are those of ShopIntentClient, awaited.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
        release_token: str | None = None,
        visitor_token: str | None = None,
    ) -> None:
        """Opens a channel to `target` ("host:port"); TLS unless `insecure` asks for plain text.

        `release_token` goes with calls about releases only, `visitor_token` with those that delete
        visitors; without TLS others may read them.
        """
        self._channel = open_aio_channel(target, credentials, insecure=insecure)
        self._streams: StreamChannels[grpc.aio.Channel] = StreamChannels(
            partial(open_aio_channel, target, credentials, insecure=insecure, alone=True)
        )
        recommendations = RecommendationServiceStub(self._channel)
        events = EventServiceStub(self._channel)
        catalog = CatalogServiceStub(self._channel)
        self.predict_intent = _awaited(calls.predict_intent, recommendations.PredictIntent)
        self.recommend = _awaited(calls.recommend, recommendations.Recommend)
        self.track_events = _awaited(calls.track_events, events.TrackEvents)
        self.get_product = _awaited(calls.get_product, catalog.GetProduct)
        self.batch_update_products = _awaited(
            calls.batch_update_products, catalog.BatchUpdateProducts
        )
        self.delete_product = _awaited(calls.delete_product, catalog.DeleteProduct)
        releases = ReleaseServiceStub(self._channel)
        token = token_metadata(release_token)
        self.list_releases = _awaited(calls.list_releases, releases.ListReleases, token)
        self.get_release = _awaited(calls.get_release, releases.GetRelease, token)
        self.verify_release = _awaited(calls.verify_release, releases.VerifyRelease, token)
        self.shadow_release = _awaited(calls.shadow_release, releases.ShadowRelease, token)
        self.canary_release = _awaited(calls.canary_release, releases.CanaryRelease, token)
        self.promote_release = _awaited(calls.promote_release, releases.PromoteRelease, token)
        self.rollback_release = _awaited(calls.rollback_release, releases.RollbackRelease, token)
        self.delete_release = _awaited(calls.delete_release, releases.DeleteRelease, token)
        visitors = VisitorServiceStub(self._channel)
        token = token_metadata(visitor_token)
        self.delete_visitor = _awaited(calls.delete_visitor, visitors.DeleteVisitor, token)
        self.verify_deletion = _awaited(calls.verify_deletion, visitors.VerifyDeletion, token)

    def stream_intents(
        self,
        visitor: str | Visitor,
        *,
        consistency_token: str = "",
        timeout_s: float = calls.STREAM_TIMEOUT_S,
    ) -> AsyncIntentStream:
        """Begins a visit; use it as `async with client.stream_intents(visitor) as visit`.

        `await visit.send(events)` then records events and returns the intent after them, within
        `timeout_s`. It connects with the first; streams share no connection with other calls.
        """
        return AsyncIntentStream(self._streams, Conversation(visitor, consistency_token), timeout_s)

    async def close(self) -> None:
        """Ends running calls and closes the channel."""
        for channel in (self._channel, *self._streams.opened()):
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def _awaited(
    build: Callable[P, calls.Call[Request]],
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
    metadata: tuple[tuple[str, str], ...] = (),
) -> Callable[P, Awaitable[Response]]:
    @wraps(build)
    async def send(*args: P.args, **kwargs: P.kwargs) -> Response:
        call = build(*args, **kwargs)
        try:
            return await method(call.request, timeout=call.timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise decode(cast(FailedCall, error)) from error

    return send
