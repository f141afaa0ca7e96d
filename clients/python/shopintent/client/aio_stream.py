"""A stream of intents, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Self, cast

import grpc

from shopintent.client.channel import StreamChannels
from shopintent.client.conversation import ENDED, Conversation, not_in_time
from shopintent.client.errors import (
    DeadlineExceededError,
    FailedCall,
    ShopIntentError,
    UnavailableError,
    decode,
)
from shopintent.v1.recommendation_service_pb2 import StreamIntentsResponse
from shopintent.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from shopintent.v1.user_event_pb2 import UserEvent, Visitor

FAREWELL_S = 1.0


class AsyncIntentStream:
    """One visit: `await send(events)` records them and returns the visitor's intent after them.

    A call that breaks is resumed, on whichever server answers, and what was not answered is sent
    again with the same event ids, so that nothing is lost and nothing counts twice. Tasks may share
    it; their events are sent one after the other.
    """

    def __init__(
        self,
        channels: StreamChannels[grpc.aio.Channel],
        conversation: Conversation,
        timeout_s: float,
    ) -> None:
        self._channels = channels
        self._channel: grpc.aio.Channel | None = None
        self._conversation = conversation
        self._timeout_s = timeout_s
        self._call: Any = None
        self._lock = asyncio.Lock()

    @property
    def consistency_token(self) -> str:
        """Stands for everything recorded so far; other calls may be given it."""
        return self._conversation.token

    async def send(
        self,
        events: Iterable[UserEvent] = (),
        *,
        visitor: str | Visitor | None = None,
        timeout_s: float | None = None,
    ) -> StreamIntentsResponse:
        """Records at most 100 events and returns the intent after them.

        `visitor` replaces who it is about, as at login. Reconnects as long as `timeout_s` allows,
        then raises UnavailableError or DeadlineExceededError; the events are kept and sent with the
        next call, so do not send them again. Events of a request that is refused, such as by
        InvalidRequestError, are dropped.
        """
        async with self._lock:
            self._conversation.add(events, visitor)
            return await self._answer(self._timeout_s if timeout_s is None else timeout_s)

    async def _answer(self, timeout_s: float) -> StreamIntentsResponse:
        failure: ShopIntentError = DeadlineExceededError(not_in_time(timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await self._exchange()
                    except grpc.aio.AioRpcError as error:
                        failure = decode(cast(FailedCall, error))
                    except UnavailableError as error:
                        failure = error
                    finally:
                        # Whatever went wrong: an answer may come that nobody waits for any more.
                        if self._conversation.next(is_first=False) is not None:
                            self._break()
                    await asyncio.sleep(self._conversation.wait_after(failure))
        except TimeoutError as error:
            raise failure from error

    async def _exchange(self) -> StreamIntentsResponse:
        """Sends everything not answered, oldest first; returns the last answer."""
        response = StreamIntentsResponse()
        while (request := self._conversation.next(is_first=self._call is None)) is not None:
            call = self._call = self._call or self._open()
            with suppress(asyncio.InvalidStateError):  # It has ended; reading tells how.
                await call.write(request)
            read = await call.read()
            if read is grpc.aio.EOF:
                raise UnavailableError(ENDED)
            response = read
            self._conversation.answered(response)
        return response

    def _open(self) -> Any:
        if self._channel is None:
            self._channel = self._channels.take()
        return RecommendationServiceStub(self._channel).StreamIntents()

    def _break(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def close(self) -> None:
        """Ends the call."""
        call, self._call = self._call, None
        if call is not None and not call.done():
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await call.done_writing()
                    await call.read()
            call.cancel()
        if self._channel is not None:
            self._channels.give_back(self._channel)
            self._channel = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
