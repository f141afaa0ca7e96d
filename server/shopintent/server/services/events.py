"""EventService: records what visitors do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from shopintent.behavior import Event
from shopintent.server.deadlines import Deadline
from shopintent.server.errors import StateUnavailable
from shopintent.server.services import convert
from shopintent.server.services.recording import Recorder
from shopintent.server.services.validation import check_track_events
from shopintent.server.sessions import SessionStore
from shopintent.server.traffic import Traffic
from shopintent.v1 import event_service_pb2 as pb
from shopintent.v1 import event_service_pb2_grpc

WARM_SHARE = 0.5
"""Of the time left, what looking up products and queries may take; the events are safe by then."""


@dataclass(frozen=True, eq=False)
class EventService(event_service_pb2_grpc.EventServiceServicer):
    """Records into the session store, whether or not the release may answer."""

    sessions: SessionStore
    traffic: Traffic
    recorder: Recorder
    timeout_s: float

    async def TrackEvents(
        self, request: pb.TrackEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TrackEventsResponse:
        """Validates, records, and warms what the next prediction needs."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        now = int(time.time())
        check_track_events(request, now=now)
        visitor, alias = convert.visitor_key(request.visitor), convert.alias_key(request.visitor)
        recorded = await self.recorder.record(
            visitor, alias, request.events, now=now, deadline=deadline
        )
        unknown = (
            await self._warm(visitor, recorded.behavior, deadline) if recorded.behavior else ()
        )
        return pb.TrackEventsResponse(
            recorded_count=recorded.count,
            unknown_product_ids=unknown,
            consistency_token=recorded.consistency_token,
        )

    async def _warm(self, visitor: str, events: Sequence[Event], deadline: Deadline) -> list[str]:
        """Makes the tokens of all that was done, now and not when a prediction waits for them.

        Returns the products among the events that the catalog does not know.
        """
        serving = self.traffic.release_for(visitor)
        with serving.in_flight:
            unknown = await serving.hydrator.warm(events, timeout_s=deadline.share_s(WARM_SHARE))
            with suppress(StateUnavailable):
                history = await self.sessions.recent(
                    visitor, timeout_s=deadline.share_s(WARM_SHARE)
                )
                await serving.hydrator.hydrate(history, timeout_s=deadline.share_s(WARM_SHARE))
        return unknown
