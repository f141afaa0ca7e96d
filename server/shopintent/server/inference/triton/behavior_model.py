"""The intent model in Triton: predictions asked for at once travel as one request."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shopintent.artifacts import signature as names
from shopintent.artifacts.signature import MAX_BATCH, sequence_length
from shopintent.behavior import Behavior
from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.server.errors import ModelUnavailable
from shopintent.server.inference import Prediction
from shopintent.server.inference.batching import Batcher, BatchRefused, Limits
from shopintent.server.inference.triton.calls import (
    HANGING_S,
    Answer,
    CallFailed,
    InputTensor,
    ModelCalls,
    outputs_of,
    rows_not_finite,
)
from shopintent.server.metrics import Metrics

BATCHES = Limits(rows=MAX_BATCH, volume=2048, padding=256)
"""In events. Triton on a core of its own takes about 0.01 ms for an event, padding or not, and
1.5 ms for a call: so a batch takes 20 ms at most, and long behaviors travel apart from short ones
where padding would cost more than another call."""


class TritonBehaviorModel:
    """The intent model of a release, as a BehaviorModel: predictions asked for at once are batched.

    A request is put together from bytes. What batches of one shape have in common is serialized
    once, and the tokens of every row are copied once, from where they were made to the request.
    """

    def __init__(
        self,
        calls: ModelCalls,
        *,
        model_name: str,
        max_events: int,
        n_actions: int,
        n_horizons: int,
        embedding_size: int,
        answers: Sequence[str],
        metrics: Metrics | None = None,
    ) -> None:
        self._calls = calls
        self._model_name = model_name
        self._max_events = max_events
        self._answers = tuple(answers)
        self._outputs = {
            names.NEXT_ACTION_PROBABILITIES: n_actions,
            names.PURCHASE_PROBABILITIES: n_horizons,
            names.BEHAVIOR_EMBEDDING: embedding_size,
            **dict.fromkeys(answers, 1),
        }
        self._frames: dict[tuple[int, int], _Frame] = {}
        self._batcher = Batcher[_Row, Prediction](
            self._predict,
            BATCHES,
            size_of=lambda row: sequence_length(len(row[0]), max_events),
            metrics=metrics,
        )

    async def predict(
        self, behavior: Behavior, *, request_time: int, timeout_s: float
    ) -> Prediction:
        """Returns the prediction for one behavior. Raises ModelUnavailable and Overloaded."""
        try:
            return await self._batcher.ask((behavior, request_time), timeout_s=timeout_s)
        except TimeoutError as error:
            why = f"not within {timeout_s:.3f} s"
            raise ModelUnavailable(self._model_name, why) from error

    async def _predict(
        self, rows: Sequence[_Row], timeout_s: float
    ) -> Sequence[Prediction | Exception]:
        try:
            # Every row has its own deadline; this one only ends what hangs.
            answer = await self._calls.ask(self._request(rows), timeout_s=timeout_s + HANGING_S)
        except CallFailed as error:
            unavailable = ModelUnavailable(self._model_name, str(error))
            if error.perhaps_one_row:
                raise BatchRefused(unavailable) from error
            raise unavailable from error
        return self._predictions(answer, len(rows))

    def _request(self, rows: Sequence[_Row]) -> bytes:
        """Returns the request of a batch, every row padded to the longest."""
        length = sequence_length(max(len(behavior) for behavior, _ in rows), self._max_events)
        shape = (len(rows), length)
        frame = self._frames.get(shape)
        if frame is None:
            heads = self._calls.heads(self._model_name, _tensors(*shape), list(self._outputs))
            frame = self._frames[shape] = _Frame.of(heads, length)
        events: list[Any] = []
        times: list[Any] = []
        for behavior, _ in rows:
            # Arrays lend their bytes to the join below, which is the only copy.
            events += (behavior.tokens, frame.event_padding[len(behavior)])
            times += (behavior.event_times, frame.time_padding[len(behavior)])
        request_times = struct.pack(f"<{len(rows)}q", *(request_time for _, request_time in rows))
        return b"".join(
            (frame.events, *events, frame.event_times, *times, frame.request_times, request_times)
        )

    def _predictions(self, answer: Answer, n_rows: int) -> list[Prediction | Exception]:
        outputs = outputs_of(self._model_name, answer, self._outputs, n_rows)
        columns = [outputs[name][:, 0].tolist() for name in self._answers]
        optional: list[dict[str, float]] = [
            dict(zip(self._answers, given, strict=True)) for given in zip(*columns, strict=True)
        ] or [{}] * n_rows
        rows = zip(
            outputs[names.NEXT_ACTION_PROBABILITIES],
            outputs[names.PURCHASE_PROBABILITIES],
            outputs[names.BEHAVIOR_EMBEDDING],
            optional,
            strict=True,
        )
        predictions: list[Prediction | Exception] = [
            Prediction(actions, purchases, embedding, given, answer.model_version)
            for actions, purchases, embedding, given in rows
        ]
        for row in rows_not_finite(outputs):
            why = "its answer is not finite FP32 numbers"
            predictions[row] = ModelUnavailable(self._model_name, why)
        return predictions


_Row = tuple[Behavior, int]
"""A behavior of at most `max_events` events, and the time of the request in unix seconds."""


def _tensors(n_rows: int, length: int) -> list[InputTensor]:
    return [
        InputTensor(names.EVENTS, "INT32", (n_rows, length, len(EVENT_FIELDS))),
        InputTensor(names.EVENT_TIMES, "INT64", (n_rows, length)),
        InputTensor(names.REQUEST_TIME, "INT64", (n_rows, 1)),
    ]


@dataclass(frozen=True)
class _Frame:
    """What all requests of one shape have in common: what goes before each tensor, and padding."""

    events: bytes
    event_times: bytes
    request_times: bytes
    event_padding: Sequence[memoryview]
    """What is missing behind so many events."""
    time_padding: Sequence[memoryview]

    @classmethod
    def of(cls, heads: tuple[bytes, ...], length: int) -> _Frame:
        zeros = memoryview(bytes(length * len(EVENT_FIELDS) * 4))
        missing = range(length, -1, -1)
        events, event_times, request_times = heads
        return cls(
            events,
            event_times,
            request_times,
            event_padding=[zeros[: n * len(EVENT_FIELDS) * 4] for n in missing],
            time_padding=[zeros[: n * 8] for n in missing],
        )
