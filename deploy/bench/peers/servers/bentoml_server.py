"""BentoML: a service whose batches adapt to the load.

See https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html. A batchable API takes a
list, so that a request holds a list of one behavior.
"""

from __future__ import annotations

from typing import Any

import bentoml
from pydantic import BaseModel

from deploy.bench.peers.servers.intent_model import MAX_BATCH, IntentModel, setting

MAX_LATENCY_MS = 1_000
"""BentoML refuses requests that it believes will take longer."""


class Behavior(BaseModel):
    """What a shopper did, as tokens, and when the answer is asked for."""

    events: list[list[int]]
    event_times: list[int]
    request_time: int


@bentoml.service(
    workers=int(setting("workers")),
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Intent:
    """The model in each of the workers."""

    def __init__(self) -> None:
        self.model = IntentModel()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    def predict(self, behaviors: list[Behavior]) -> list[dict[str, Any]]:
        """Answers a batch."""
        return [dict(each) for each in self.model.predict([vars(each) for each in behaviors])]
