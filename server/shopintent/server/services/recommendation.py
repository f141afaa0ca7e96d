"""RecommendationService: what a visitor means to do next, and what to show them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import duration_pb2

from shopintent.behavior import Event
from shopintent.server.deadlines import Deadline
from shopintent.server.interceptors.request_id import current_request_id
from shopintent.server.predict import IntentPredictor
from shopintent.server.ranking import HOME
from shopintent.server.recommend import Query, Recommender, Source
from shopintent.server.releases import Release
from shopintent.server.services import convert
from shopintent.server.services.validation import check_predict_intent, check_recommend
from shopintent.server.sessions import SessionStore
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1 import recommendation_service_pb2_grpc, user_event_pb2

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100

SOURCES = {
    Source.PERSONALIZED: pb.RECOMMENDATION_SOURCE_PERSONALIZED,
    Source.POPULAR: pb.RECOMMENDATION_SOURCE_POPULAR,
}


@dataclass(frozen=True, eq=False)
class RecommendationService(recommendation_service_pb2_grpc.RecommendationServiceServicer):
    """Answers from one release; `timeout_s` is the most an answer may take."""

    release: Release
    sessions: SessionStore
    predictor: IntentPredictor
    recommender: Recommender
    timeout_s: float

    async def PredictIntent(
        self, request: pb.PredictIntentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PredictIntentResponse:
        """Validates, reads the behavior, predicts."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        now = int(time.time())
        check_predict_intent(request, now=now)
        events = await self._behavior(request.visitor, request.recent_events, now)
        intent = await self.predictor.predict(events, deadline=deadline)
        likely_first = sorted(intent.next_actions, key=lambda each: each[1], reverse=True)
        return pb.PredictIntentResponse(
            next_actions=[
                pb.NextActionPrediction(action=action, probability=probability)
                for action, probability in likely_first
            ],
            purchases=[
                pb.PurchasePrediction(
                    horizon=duration_pb2.Duration(seconds=horizon_s), probability=probability
                )
                for horizon_s, probability in intent.purchases
            ],
            visit_purchase_probability=intent.visit_purchase,
            expected_time_to_purchase=convert.duration(intent.expected_time_to_purchase_s),
            expected_quantity=intent.expected_quantity,
            model=self._model_info(intent.model_version),
            attribution_token=self._attribution_token(),
            degraded_reasons=convert.degraded_reasons(intent.degraded),
        )

    async def Recommend(
        self, request: pb.RecommendRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RecommendResponse:
        """Validates, reads the behavior, recommends."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        now = int(time.time())
        check_recommend(request, now=now)
        query = Query(
            events=await self._behavior(request.visitor, request.recent_events, now),
            placement=request.placement or HOME,
            page_size=min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE),
            product_filter=convert.filter_from_proto(request.filter),
            seen_products_included=request.filter.seen_products_included,
        )
        answer = await self.recommender.recommend(query, deadline=deadline)
        return pb.RecommendResponse(
            recommendations=[
                pb.Recommendation(
                    product=convert.product_to_proto(ranked.product, request.view),
                    score=ranked.score,
                    source=SOURCES[answer.source],
                )
                for ranked in answer.products
            ],
            model=self._model_info(answer.model_version),
            attribution_token=self._attribution_token(),
            degraded_reasons=convert.degraded_reasons(answer.degraded),
        )

    async def _behavior(
        self,
        visitor: user_event_pb2.Visitor,
        recent_events: Sequence[user_event_pb2.UserEvent],
        now: int,
    ) -> list[Event]:
        """Returns the tracked events followed by the recent ones."""
        key = convert.visitor_key(visitor)
        tracked = await self.sessions.recent(key) if key else []
        recent = [convert.tracked_event(each, received_at=now).event for each in recent_events]
        return [*tracked, *recent]

    def _model_info(self, model_version: str) -> pb.ModelInfo:
        return pb.ModelInfo(
            release_id=self.release.release_id,
            model_name=self.release.intent_model if model_version else "",
            model_version=model_version,
        )

    def _attribution_token(self) -> str:
        return convert.attribution_token(self.release.release_id, current_request_id())
