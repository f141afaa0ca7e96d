"""LitServe: HTTP servers in front of processes that run the model on batches of what waits.

See https://lightning.ai/docs/litserve/features/batching and .../features/fast-queue, which is for
more than a hundred requests a second.
"""

from __future__ import annotations

import litserve

from deploy.bench.peers.servers.intent_model import MAX_BATCH, IntentModel, Json, setting

BATCH_TIMEOUT_S = 0.002
"""For a batch to fill."""


class IntentApi(litserve.LitAPI):
    """The model in each of the processes."""

    def setup(self, device: str) -> None:
        """Opens the model."""
        self.model = IntentModel()

    def batch(self, inputs: list[Json]) -> list[Json]:
        """Leaves the requests as they are: they may differ in length."""
        return inputs

    def predict(self, x: list[Json]) -> list[Json]:
        """Answers a batch."""
        return self.model.predict(x)

    def unbatch(self, output: list[Json]) -> list[Json]:
        """Leaves the answers as they are."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        IntentApi(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S),
        accelerator="cpu",
        workers_per_device=int(setting("workers")),
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(setting("port")),
        num_api_servers=int(setting("api_servers")),
        generate_client_file=False,
        access_log=False,
        log_level="warning",
    )
