"""The exported intent model as a Python service would use it: JSON in, JSON out.

All peers share it, so that they differ in how they serve and in nothing else. It runs in their
environments, which have numpy and onnxruntime and nothing of this project.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

MAX_BATCH = 64
"""Rows of one run, as in Triton."""
N_FIELDS = 9
OUTPUTS = ("next_action_probabilities", "purchase_probabilities")

Json = Mapping[str, Any]


def setting(name: str) -> str:
    """Returns what the benchmark has set, such as "port", "workers" or "model"."""
    return os.environ[f"INTENT_{name.upper()}"]


class IntentModel:
    """Answers a batch of behaviors with one run of the model.

    A run has one thread: the processors are used by running several, in as many processes or
    threads as the benchmark finds best for the peer. That costs less than parts of one run do.
    """

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            setting("model"), options, providers=["CPUExecutionProvider"]
        )
        manifest = json.loads(Path(setting("manifest")).read_text(encoding="utf-8"))
        self.release_id: str = manifest["release_id"]
        self.actions: list[str] = manifest["actions"]
        self.horizons_s: list[int] = manifest["horizons_s"]
        self.optional_answers: list[str] = manifest["answers"]

    def predict(self, behaviors: Sequence[Json]) -> list[Json]:
        """Returns what PredictIntent would say of each behavior."""
        outputs = self.session.run([*OUTPUTS, *self.optional_answers], tensors(behaviors))
        rows = zip(*(each.tolist() for each in outputs), strict=True)
        return [self._answer(*row) for row in rows]

    def _answer(self, actions: list[float], purchases: list[float], *others: list[float]) -> Json:
        likely_first = sorted(zip(self.actions, actions, strict=True), key=lambda pair: -pair[1])
        within = zip(self.horizons_s, purchases, strict=True)
        return {
            "next_actions": [{"action": name, "probability": p} for name, p in likely_first],
            "purchases": [{"horizon_s": horizon_s, "probability": p} for horizon_s, p in within],
            **{name: value for name, (value,) in zip(self.optional_answers, others, strict=True)},
            "release_id": self.release_id,
        }


def tensors(behaviors: Sequence[Json]) -> dict[str, Any]:
    """Returns the inputs of a batch, with zeros behind the events up to the longest of it."""
    length = max(1, *(len(each["events"]) for each in behaviors))
    events = np.zeros((len(behaviors), length, N_FIELDS), dtype=np.int32)
    times = np.zeros((len(behaviors), length), dtype=np.int64)
    for row, behavior in enumerate(behaviors):
        if n_events := len(behavior["events"]):
            events[row, :n_events] = behavior["events"]
            times[row, :n_events] = behavior["event_times"]
    asked_at = np.array([[each["request_time"]] for each in behaviors], dtype=np.int64)
    return {"events": events, "event_times": times, "request_time": asked_at}
