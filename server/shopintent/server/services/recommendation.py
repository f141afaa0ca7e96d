"""RecommendationService: what a visitor means to do next, and what to show them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any

import grpc

from shopintent.server.deadlines import Deadline
from shopintent.server.hydrate import Degraded
from shopintent.server.interceptors.request_id import current_request_id
from shopintent.server.metrics import Metrics
from shopintent.server.predict import PredictedIntent
from shopintent.server.ranking import HOME
from shopintent.server.recommend import Answer, Query, Source
from shopintent.server.releases import Release
from shopintent.server.services import convert
from shopintent.server.services.products import RecommendedProducts
from shopintent.server.services.validation import check_predict_intent, check_recommend
from shopintent.server.serving import ServingRelease
from shopintent.server.sessions import EMPTY_HISTORY, History, SessionStore
from shopintent.server.traffic import Traffic
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1 import recommendation_service_pb2_grpc, user_event_pb2

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100

SOURCES = {
    Source.PERSONALIZED: pb.RECOMMENDATION_SOURCE_PERSONALIZED,
    Source.POPULAR: pb.RECOMMENDATION_SOURCE_POPULAR,
}

PREDICT_INTENT = "shopintent.v1.RecommendationService/PredictIntent"
RECOMMEND = "shopintent.v1.RecommendationService/Recommend"

_probability = itemgetter(1)


@dataclass(frozen=True, eq=False)
class RecommendationService(recommendation_service_pb2_grpc.RecommendationServiceServicer):
    """Answers each request from one release; `timeout_s` is the most an answer may take."""

    sessions: SessionStore
    traffic: Traffic
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
        history = await self._history(visitor, request.recent_events, now)
        laps.ended("session")

        async def predict(release: ServingRelease, by: Deadline) -> PredictedIntent:
            intent = await release.predictor.predict(history, deadline=by)
            if self.traffic.is_comparing:
                release.stats.count_intent(intent.next_actions)
            return intent

        serving, intent = await self.traffic.answer(visitor, predict, deadline=deadline)
        laps.skip()
        response = pb.PredictIntentResponse(
            visit_purchase_probability=intent.visit_purchase,
            expected_time_to_purchase=convert.duration(intent.expected_time_to_purchase_s),
            expected_quantity=intent.expected_quantity,
            model=_model_info(serving.release, intent.model_version),
            attribution_token=_attribution_token(serving.release),
            degraded_reasons=convert.degraded_reasons(intent.degraded),
        )
        # Added in place: a list of messages is made, copied and thrown away at twice the cost.
        for action, probability in sorted(intent.next_actions, key=_probability, reverse=True):
            response.next_actions.add(action=action, probability=probability)
        for horizon_s, probability in intent.purchases:
            response.purchases.add(probability=probability).horizon.seconds = horizon_s
        laps.ended("answer")
        self._count_degraded(PREDICT_INTENT, intent.degraded)
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
        history = await self._history(visitor, request.recent_events, now)
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
        response = pb.RecommendResponse(
            model=_model_info(serving.release, answer.model_version),
            attribution_token=_attribution_token(serving.release),
            degraded_reasons=convert.degraded_reasons(answer.degraded),
        )
        source = SOURCES[answer.source]
        self.recommended.add_to(response, answer.products, request.view, source)
        laps.ended("answer")
        self._count_degraded(RECOMMEND, answer.degraded)
        return response

    def _count_degraded(self, method: str, degraded: frozenset[Degraded]) -> None:
        for reason in degraded:
            self.metrics.degraded(method, reason)

    async def _history(
        self, visitor: str, recent_events: Sequence[user_event_pb2.UserEvent], now: int
    ) -> History:
        """Returns the tracked events followed by the recent ones.

        Without recent ones it is the store's own object, with which its tokens are kept.
        """
        tracked = await self.sessions.recent(visitor) if visitor else EMPTY_HISTORY
        if not recent_events:
            return tracked
        recent = [convert.tracked_event(each, received_at=now).event for each in recent_events]
        return History((*tracked.events, *recent))


def _model_info(release: Release, model_version: str) -> pb.ModelInfo:
    return _made_model_info(
        release.release_id, release.intent_model if model_version else "", model_version
    )


@lru_cache(maxsize=16)
def _made_model_info(release_id: str, model_name: str, model_version: str) -> pb.ModelInfo:
    """Returns the one message that all answers of a model copy."""
    return pb.ModelInfo(release_id=release_id, model_name=model_name, model_version=model_version)


def _attribution_token(release: Release) -> str:
    return convert.attribution_token(release.release_id, current_request_id())
