"""RecommendationService: what a visitor means to do next, and what to show them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from shopintent.server.deadlines import Deadline
from shopintent.server.errors import StateUnavailable
from shopintent.server.metrics import Metrics
from shopintent.server.ranking import HOME
from shopintent.server.recommend import Answer, Query
from shopintent.server.services import convert
from shopintent.server.services.intents import (
    attribution_token,
    intent_to_proto,
    model_info,
    predict_intent,
)
from shopintent.server.services.products import RecommendedProducts
from shopintent.server.services.reading import BEHAVIOR_UNAVAILABLE, read_history, with_recent
from shopintent.server.services.recording import Recorder
from shopintent.server.services.validation import check_predict_intent, check_recommend
from shopintent.server.services.visits import Visit
from shopintent.server.serving import ServingRelease
from shopintent.server.sessions import EMPTY_HISTORY, SessionStore
from shopintent.server.traffic import Traffic
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1 import recommendation_service_pb2_grpc

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100

PREDICT_INTENT = "shopintent.v1.RecommendationService/PredictIntent"
RECOMMEND = "shopintent.v1.RecommendationService/Recommend"


@dataclass(frozen=True, eq=False)
class RecommendationService(recommendation_service_pb2_grpc.RecommendationServiceServicer):
    """Answers each request from one release; `timeout_s` is the most an answer may take."""

    sessions: SessionStore
    traffic: Traffic
    recorder: Recorder
    timeout_s: float
    metrics: Metrics = field(default_factory=Metrics)
    recommended: RecommendedProducts = field(default_factory=RecommendedProducts)

    async def PredictIntent(
        self, request: pb.PredictIntentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PredictIntentResponse:
        """Validates, reads the behavior, predicts."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        now = int(time.time())
        laps = self.metrics.laps()
        check_predict_intent(request, now=now)
        laps.ended("validate")
        visitor = convert.visitor_key(request.visitor)
        history, missing = await read_history(
            self.sessions, visitor, request.consistency_token, deadline
        )
        if request.recent_events:
            history = with_recent(history, request.recent_events, now=now)
        laps.ended("session")
        release, intent = await predict_intent(self.traffic, visitor, history, deadline)
        laps.skip()
        degraded = intent.degraded | missing if missing else intent.degraded
        response = intent_to_proto(release, intent, degraded)
        laps.ended("answer")
        self.metrics.degraded_answer(PREDICT_INTENT, degraded)
        return response

    async def Recommend(
        self, request: pb.RecommendRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RecommendResponse:
        """Validates, reads the behavior, recommends."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        now = int(time.time())
        laps = self.metrics.laps()
        check_recommend(request, now=now)
        laps.ended("validate")
        visitor = convert.visitor_key(request.visitor)
        try:
            history, missing = await read_history(
                self.sessions, visitor, request.consistency_token, deadline
            )
        except StateUnavailable:
            history, missing = EMPTY_HISTORY, BEHAVIOR_UNAVAILABLE
        if request.recent_events:
            history = with_recent(history, request.recent_events, now=now)
        laps.ended("session")
        query = Query(
            history=history,
            placement=request.placement or HOME,
            page_size=min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE),
            product_filter=convert.filter_from_proto(request.filter),
            seen_products_included=request.filter.seen_products_included,
        )

        async def recommend(release: ServingRelease, by: Deadline) -> Answer:
            return await release.recommender.recommend(query, deadline=by)

        serving, answer = await self.traffic.answer(visitor, recommend, deadline=deadline)
        laps.skip()
        degraded = answer.degraded | missing if missing else answer.degraded
        response = pb.RecommendResponse(
            model=model_info(serving.release, answer.model_version),
            attribution_token=attribution_token(serving.release),
            degraded_reasons=convert.degraded_reasons(degraded),
        )
        self.recommended.add_to(response, answer.products, request.view)
        laps.ended("answer")
        self.metrics.degraded_answer(RECOMMEND, degraded)
        return response

    async def StreamIntents(
        self,
        request_iterator: AsyncIterator[pb.StreamIntentsRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.StreamIntentsResponse]:
        """Answers each request before it asks for the next."""
        visit = Visit(self.recorder, self.traffic, self.metrics, self.timeout_s)
        async for request in request_iterator:
            yield await visit.answer(request, time_remaining_s=context.time_remaining())
