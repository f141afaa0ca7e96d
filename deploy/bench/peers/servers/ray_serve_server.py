"""Ray Serve: replicas of the model that gather batches, behind HAProxy.

See https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html and .../performance.html;
the benchmark sets the two variables of Ray's guide to high throughput.
"""

from __future__ import annotations

import ray
from ray import serve
from starlette.requests import Request

from deploy.bench.peers.servers.intent_model import MAX_BATCH, IntentModel, Json, setting

BATCH_WAIT_S = int(setting("batch_wait_ms")) / 1000
"""For a batch to fill."""
MAX_ONGOING = 256
"""Requests that a replica may hold: more than ever wait here."""
OBJECT_STORE_BYTES = 100_000_000
"""Little: nothing is put into it."""


@serve.deployment(
    num_replicas=int(setting("workers")),
    max_ongoing_requests=MAX_ONGOING,
    logging_config={"enable_access_log": False},
)
class Intent:
    """The model in each of the replicas."""

    def __init__(self) -> None:
        self.model = IntentModel()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def predict(self, behaviors: list[Json]) -> list[Json]:
        """Answers a batch."""
        return self.model.predict(behaviors)

    async def __call__(self, request: Request) -> Json:
        """Answers one request, in a batch with others."""
        answer: Json = await self.predict(await request.json())
        return answer


if __name__ == "__main__":
    ray.init(
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=setting("scratch"),
        # Ray's own actors take none; the replicas are told apart from processors by their number.
        num_cpus=int(setting("workers")),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(setting("port"))})
    served = Intent.bind()  # type: ignore[attr-defined]  # the decorator adds it
    serve.run(served, route_prefix="/predict", blocking=True)
