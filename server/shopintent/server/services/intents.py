"""Predicts an intent and says it: what PredictIntent and StreamIntents have in common."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter

from shopintent.server.deadlines import Deadline
from shopintent.server.hydrate import Degraded
from shopintent.server.interceptors.request_id import current_request_id
from shopintent.server.predict import PredictedIntent
from shopintent.server.releases import Release
from shopintent.server.services import convert
from shopintent.server.serving import ServingRelease
from shopintent.server.sessions import History
from shopintent.server.traffic import Traffic
from shopintent.v1 import recommendation_service_pb2 as pb

_probability = itemgetter(1)


async def predict_intent(
    traffic: Traffic, visitor: str, history: History, deadline: Deadline
) -> tuple[Release, PredictedIntent]:
    """Returns the intent behind a history and the release that predicted it.

    Raises what keeps it from being predicted: ModelUnavailable, ReleaseMismatch, Overloaded.
    """

    async def predict(release: ServingRelease, by: Deadline) -> PredictedIntent:
        intent = await release.predictor.predict(history, deadline=by)
        if traffic.is_comparing:
            release.stats.count_intent(intent.next_actions)
        return intent

    serving, intent = await traffic.answer(visitor, predict, deadline=deadline)
    return serving.release, intent


def intent_to_proto(
    release: Release, intent: PredictedIntent, degraded: frozenset[Degraded]
) -> pb.PredictIntentResponse:
    """Returns the answer; `degraded` is all that is missing of it."""
    response = pb.PredictIntentResponse(
        visit_purchase_probability=intent.visit_purchase,
        expected_time_to_purchase=convert.duration(intent.expected_time_to_purchase_s),
        expected_quantity=intent.expected_quantity,
        model=model_info(release, intent.model_version),
        attribution_token=attribution_token(release),
        degraded_reasons=convert.degraded_reasons(degraded),
    )
    # Added in place: a list of messages is made, copied and thrown away at twice the cost.
    for action, probability in sorted(intent.next_actions, key=_probability, reverse=True):
        response.next_actions.add(action=action, probability=probability)
    for horizon_s, probability in intent.purchases:
        response.purchases.add(probability=probability).horizon.seconds = horizon_s
    return response


def model_info(release: Release, model_version: str) -> pb.ModelInfo:
    """Returns what answered; without a version no model did."""
    return _made_model_info(
        release.release_id, release.intent_model if model_version else "", model_version
    )


@lru_cache(maxsize=16)
def _made_model_info(release_id: str, model_name: str, model_version: str) -> pb.ModelInfo:
    """Returns the one message that all answers of a model copy."""
    return pb.ModelInfo(release_id=release_id, model_name=model_name, model_version=model_version)


def attribution_token(release: Release) -> str:
    """Returns the token of the answer to the request at hand."""
    return convert.attribution_token(release.release_id, current_request_id())
