"""FastAPI and onnxruntime, for uvicorn on uvloop and httptools with a few workers.

See https://fastapi.tiangolo.com/deployment/server-workers/, and .../async/ on endpoints that block:
the model runs either in the event loop, or where FastAPI runs plain functions, in threads.
"""

from __future__ import annotations

import orjson
from fastapi import FastAPI, Response
from pydantic import BaseModel

from deploy.bench.peers.servers.intent_model import IntentModel, setting


class Behavior(BaseModel):
    """What a shopper did, as tokens, and when the answer is asked for."""

    events: list[list[int]]
    event_times: list[int]
    request_time: int


app = FastAPI()
model = IntentModel()


def predict(behavior: Behavior) -> Response:
    """Answers one request with a run of its own: FastAPI has no batches."""
    (answer,) = model.predict([vars(behavior)])
    return Response(orjson.dumps(answer), media_type="application/json")


async def predict_in_the_event_loop(behavior: Behavior) -> Response:
    """Answers without the way to a thread and back, and without serving others meanwhile."""
    return predict(behavior)


app.post("/predict")(predict if setting("threads") == "1" else predict_in_the_event_loop)
