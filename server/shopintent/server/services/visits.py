"""A visit: one call of StreamIntents, which records events as they come and tells the intent."""

from __future__ import annotations

import time
from dataclasses import dataclass

from shopintent.server.deadlines import Deadline
from shopintent.server.errors import ShopIntentError, StateUnavailable
from shopintent.server.hydrate import Degraded
from shopintent.server.metrics import Metrics
from shopintent.server.services import convert
from shopintent.server.services.intents import intent_to_proto, predict_intent
from shopintent.server.services.reading import read_history
from shopintent.server.services.recording import Recorder
from shopintent.server.services.validation import check_stream_intents
from shopintent.server.traffic import Traffic
from shopintent.v1 import recommendation_service_pb2 as pb

STREAM_INTENTS = "shopintent.v1.RecommendationService/StreamIntents"


@dataclass(eq=False)
class Visit:
    """Answers the requests of one call; `timeout_s` is the most that each may take."""

    recorder: Recorder
    traffic: Traffic
    metrics: Metrics
    timeout_s: float
    visitor: str = ""
    """The key of whom it is about; empty before the first request."""
    alias: str = ""
    token: str = ""
    """Stands for what was recorded of the visitor, as far as it is known here."""

    async def answer(
        self, request: pb.StreamIntentsRequest, *, time_remaining_s: float | None
    ) -> pb.StreamIntentsResponse:
        """Validates, records, predicts. Raises what TrackEvents does; then nothing is recorded."""
        deadline = Deadline.for_call(time_remaining_s, at_most_s=self.timeout_s)
        now = int(time.time())
        check_stream_intents(request, is_first=not self.visitor, now=now)
        self._follow(request)
        # Whoever logs in is joined at once, whether or not they do something.
        recorded_count = 0
        if request.events or (self.alias and request.HasField("visitor")):
            recorded = await self.recorder.record(
                self.visitor, self.alias, request.events, now=now, deadline=deadline
            )
            recorded_count, self.token = recorded.count, recorded.consistency_token
        response = pb.StreamIntentsResponse(
            recorded_count=recorded_count, consistency_token=self.token
        )
        await self._add_intent(response, request.consistency_token, deadline)
        return response

    def _follow(self, request: pb.StreamIntentsRequest) -> None:
        """Takes over who it is about from here on, and what is known of them."""
        if request.HasField("visitor"):
            visitor = convert.visitor_key(request.visitor)
            if visitor != self.visitor:
                self.token = ""
            self.visitor, self.alias = visitor, convert.alias_key(request.visitor)
        self.token = request.consistency_token or self.token

    async def _add_intent(
        self, response: pb.StreamIntentsResponse, token: str, deadline: Deadline
    ) -> None:
        """Adds the intent, or why there is none: the events are recorded all the same."""
        try:
            history, missing = await read_history(
                self.recorder.sessions, self.visitor, token, deadline
            )
            release, intent = await predict_intent(self.traffic, self.visitor, history, deadline)
            missing |= intent.degraded
            response.intent.CopyFrom(intent_to_proto(release, intent, missing))
        except StateUnavailable:
            missing = frozenset({Degraded.BEHAVIOR_UNAVAILABLE})
        except ShopIntentError:
            missing = frozenset({Degraded.INTENT_UNAVAILABLE})
        response.degraded_reasons.extend(convert.degraded_reasons(missing))
        self.metrics.degraded_answer(STREAM_INTENTS, missing)
