"""What calling a model is, whatever carries the call: bytes of tensors there, and bytes back.

Nobody cancels a call: one that ends while Triton answers it can crash a Triton of before 24.12
(triton-inference-server/server#8034). Who has waited long enough leaves, and the call ends by
itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shopintent.server.errors import ModelUnavailable

HANGING_S = 2.0
"""Seconds after the last deadline of those who wait until a call is given up."""

_ITEM_BYTES = {"INT32": 4, "INT64": 8, "FP32": 4}
_DATATYPES = {"int32": "INT32", "int64": "INT64", "float32": "FP32"}


@dataclass(frozen=True)
class InputTensor:
    """What a request says of one of its tensors."""

    name: str
    datatype: str
    """Triton's word: INT32, INT64 or FP32."""
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Of its content, which is little-endian and in C order."""
        return _ITEM_BYTES[self.datatype] * math.prod(self.shape)


@dataclass(frozen=True)
class Answer:
    """What a model answered."""

    outputs: Mapping[str, bytes | memoryview]
    """The content of each FP32 output."""
    model_version: str


class CallFailed(Exception):
    """There is no answer; the message says why."""

    def __init__(self, why: str, *, perhaps_one_row: bool = False) -> None:
        super().__init__(why)
        self.perhaps_one_row = perhaps_one_row
        """Whether the model failed on its input, which may be the fault of one row of it."""


class ModelCalls(Protocol):
    """A way to Triton."""

    def heads(
        self, model_name: str, inputs: Sequence[InputTensor], outputs: Sequence[str]
    ) -> tuple[bytes, ...]:
        """Returns what goes before the content of each input; joined they are the request."""

    async def ask(self, request: bytes, *, timeout_s: float) -> Answer:
        """Returns the answer. Raises CallFailed, after `timeout_s` seconds at the latest.

        Who is cancelled while it waits leaves the call to itself.
        """


async def infer(
    calls: ModelCalls,
    model_name: str,
    inputs: Mapping[str, NDArray[Any]],
    output_sizes: Mapping[str, int],
    *,
    timeout_s: float,
) -> dict[str, NDArray[np.float32]]:
    """Returns the named [B, size] outputs for inputs [B, ...]. Raises ModelUnavailable."""
    tensors = [
        InputTensor(name, _DATATYPES[array.dtype.name], array.shape)
        for name, array in inputs.items()
    ]
    heads = calls.heads(model_name, tensors, list(output_sizes))
    contents = (np.ascontiguousarray(array).tobytes() for array in inputs.values())
    request = b"".join(part for pair in zip(heads, contents, strict=True) for part in pair)
    try:
        answer = await calls.ask(request, timeout_s=timeout_s + HANGING_S)
    except CallFailed as error:
        raise ModelUnavailable(model_name, str(error)) from error
    outputs = outputs_of(model_name, answer, output_sizes, tensors[0].shape[0])
    if rows_not_finite(outputs):
        raise ModelUnavailable(model_name, "its answer is not finite FP32 numbers")
    return outputs


def outputs_of(
    model_name: str, answer: Answer, sizes: Mapping[str, int], n_rows: int
) -> dict[str, NDArray[np.float32]]:
    """Returns the named [n_rows, size] outputs; they are views of the answer's bytes."""
    outputs = {}
    for name, size in sizes.items():
        content = answer.outputs.get(name, b"")
        if len(content) != 4 * n_rows * size:
            shape = [n_rows, size]
            why = f"its output {name} is not {shape} finite FP32 numbers"
            raise ModelUnavailable(model_name, why)
        outputs[name] = np.frombuffer(content, dtype="<f4").reshape(n_rows, size)
    return outputs


def rows_not_finite(outputs: Mapping[str, NDArray[np.float32]]) -> list[int]:
    """Returns the rows in which any output holds a number that is infinite or none."""
    # All numbers at once: one look instead of one for each output.
    arrays: list[Any] = list(outputs.values())  # Which lend their bytes.
    everything = np.frombuffer(b"".join(arrays), dtype="<f4")
    if np.isfinite(everything).all():
        return []
    finite = [np.isfinite(output).all(axis=1) for output in outputs.values()]
    rows: list[int] = np.flatnonzero(~np.logical_and.reduce(finite)).tolist()
    return rows
