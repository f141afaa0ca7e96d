"""EventService: records what visitors do."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from shopintent.server.deadlines import Deadline
from shopintent.server.errors import StateUnavailable
from shopintent.server.services import convert
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
    timeout_s: float

    async def TrackEvents(
        self, request: pb.TrackEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TrackEventsResponse:
        """Validates, records, counts popularity, and warms what the next prediction needs."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        now = int(time.time())
        check_track_events(request, now=now)
        tracked = [convert.tracked_event(each, received_at=now) for each in request.events]
        events = [each.event for each in tracked]
        visitor = convert.visitor_key(request.visitor)
        appended = await self.sessions.append(visitor, tracked, timeout_s=deadline.share_s())
        counted = [event for event, is_new in zip(events, appended.new, strict=True) if is_new]
        for release in self.traffic.ready:
            release.popular.record(counted)
        serving = self.traffic.release_for(visitor)
        with serving.in_flight:
            unknown = await serving.hydrator.warm(events, timeout_s=deadline.share_s(WARM_SHARE))
            with suppress(StateUnavailable):
                # Now and not when a prediction waits for it: the tokens of all that was done.
                history = await self.sessions.recent(visitor)
                await serving.hydrator.hydrate(history, timeout_s=deadline.share_s(WARM_SHARE))
        return pb.TrackEventsResponse(recorded_count=sum(appended.new), unknown_product_ids=unknown)
