"""What is asked and what is right: the behaviors of visitors, and what the model says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from deploy.bench.load import Target, grpc_target
from deploy.bench.peers.peers import Json
from deploy.bench.targets import OUTPUTS, SERVICE
from deploy.bench.verify import TOLERANCE, WrongAnswer
from deploy.bench.visitors import Visitor
from deploy.demo.visit import REQUESTS
from shopintent.artifacts import Manifest, ReleasesRoot, signature
from shopintent.artifacts.layout import intent_model
from shopintent.behavior import Behavior, BehaviorTokenizer
from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.client import calls
from shopintent.v1.user_event_pb2 import UserEvent

WITH_EVENTS = "predict_intent_with_events"
"""PredictIntent with all events in the request and none tracked, as peers are asked."""
UNTRACKED = "untracked"
"""Begins the ids of visitors of whom nothing was tracked."""
LONGEST_ID = 100


@dataclass(frozen=True, eq=False)
class Model:
    """The intent model of the serving release, run by onnxruntime with nothing around it."""

    session: Any
    tokenizer: BehaviorTokenizer
    manifest: Manifest

    @staticmethod
    def open(releases: ReleasesRoot) -> Model:
        """Opens what the current release consists of."""
        release_id = releases.current()
        assert release_id is not None, f"{releases.path} names no current release"
        folder = releases.release(release_id)
        file = releases.model_repository / intent_model(release_id) / "1" / "model.onnx"
        return Model(
            ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]),
            BehaviorTokenizer.load(folder.behavior_tokenizer),
            Manifest.load(folder.manifest),
        )

    def behavior(self, visitor: Visitor, *, request_time: int) -> Json:
        """Returns what a peer is asked about a visitor: tokens, and not padded."""
        behavior = self.tokenizer.encode(visitor.events)
        return {
            "events": behavior.tokens[-self.tokenizer.max_events :].tolist(),
            "event_times": behavior.event_times[-self.tokenizer.max_events :].tolist(),
            "request_time": request_time,
        }

    def outputs(self, behavior: Json) -> dict[str, NDArray[np.float32]]:
        """Returns the outputs for one behavior, without the batch dimension."""
        tokens = np.array(behavior["events"], np.int32).reshape(-1, len(EVENT_FIELDS))
        times = np.array(behavior["event_times"], np.int64)
        length = signature.sequence_length(len(times), self.tokenizer.max_events)
        window = self.tokenizer.window(Behavior(tokens, times), length)
        inputs: dict[str, NDArray[Any]] = {
            signature.EVENTS: window.tokens[None],
            signature.EVENT_TIMES: window.event_times[None],
            signature.REQUEST_TIME: np.array([[behavior["request_time"]]], np.int64),
        }
        found = self.session.run(list(OUTPUTS), inputs)
        return {name: rows[0] for name, rows in zip(OUTPUTS, found, strict=True)}

    def expected(self, behavior: Json) -> dict[str, float]:
        """Returns what a right answer says, as `said` does."""
        outputs = self.outputs(behavior)
        actions = outputs[signature.NEXT_ACTION_PROBABILITIES].tolist()
        purchases = outputs[signature.PURCHASE_PROBABILITIES].tolist()
        return {
            **dict(zip(self.manifest.actions, actions, strict=True)),
            **{
                f"purchase within {horizon_s} s": probability
                for horizon_s, probability in zip(self.manifest.horizons_s, purchases, strict=True)
            },
            **{name: float(outputs[name][0]) for name in self.manifest.answers},
        }


def said(answer: Json) -> dict[str, float]:
    """Returns every number of a peer's answer by what it is about."""
    others = {name: answer[name] for name in signature.OPTIONAL_ANSWERS if name in answer}
    return {
        **{each["action"]: each["probability"] for each in answer["next_actions"]},
        **{
            f"purchase within {each['horizon_s']} s": each["probability"]
            for each in answer["purchases"]
        },
        **others,
    }


def difference(name: str, given: Mapping[str, float], right: Mapping[str, float]) -> float:
    """Returns how far the furthest number is off, relative to the right one where that is above 1.

    Raises WrongAnswer when it is too far, or a number is missing.
    """
    if given.keys() != right.keys():
        raise WrongAnswer(f"{name} answers with {sorted(given)}, not with {sorted(right)}")
    wanted = np.array(list(right.values()))
    off = np.abs(np.array([given[each] for each in right]) - wanted) / np.maximum(1.0, abs(wanted))
    # Not Python's max, which passes over what is no number.
    found = float(off.max())
    if not found <= TOLERANCE:
        raise WrongAnswer(f"{name} differs from onnxruntime by {found:g}, more than {TOLERANCE:g}")
    return found


def sent_events(visitor: Visitor) -> list[UserEvent]:
    """Returns what a visitor did as events of a request."""
    return [
        REQUESTS[event.event_type](event, datetime.fromtimestamp(event.event_time, UTC))
        for event in visitor.events
    ]


def with_events_target(address: str, visitors: Sequence[Visitor]) -> Target:
    """Returns the target that asks PredictIntent about behaviors that come with the request.

    Nothing was tracked under the ids of these visitors. Their length makes up for that of the
    events, since all messages of a load are of one length.
    """
    bare = [
        calls.predict_intent(f"{UNTRACKED}-{number:06}", sent_events(visitor)).request
        for number, visitor in enumerate(visitors)
    ]
    sizes = np.array([request.ByteSize() for request in bare])
    size = int(np.quantile(sizes, 0.9))
    messages = []
    for request in bare:
        missing = size - request.ByteSize()
        if 0 <= missing <= LONGEST_ID - len(request.visitor.visitor_id):
            request.visitor.visitor_id += "-" * missing
            messages.append(request.SerializeToString())
    return grpc_target(WITH_EVENTS, address, f"{SERVICE}/PredictIntent", messages)
