"""The models of a release on a Triton Inference Server, over one gRPC channel.

The generated stubs that tritonclient ships are used directly: its numpy helpers cost more than
the call.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from shopintent.artifacts import signature as names
from shopintent.artifacts.signature import MAX_BATCH, Signature, Tensor, sequence_length
from shopintent.behavior import Behavior
from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.server.errors import ModelUnavailable
from shopintent.server.inference import ModelDescription, Prediction
from shopintent.server.inference.batching import Batcher, BatchRefused, Limits
from shopintent.server.metrics import Metrics
from shopintent.server.wire import LENGTH_DELIMITED, tag, varint

HANGING_S = 2.0
"""Seconds after the last deadline of a batch until it is given up. Not sooner, because a call that
ends while Triton answers it can crash Triton; see batching.py."""
MAX_TEXTS = 16
"""Texts of one call to the text encoder: a search query waits behind no more than these."""

KEY_HEADER = "triton-grpc-protocol-shopintent-model-control"
"""Where Triton looks for the key; it was started with the part after "protocol-"."""
NO_KEY = (
    "Triton has not loaded it, and this server may not: set SHOPINTENT_TRITON_MODEL_CONTROL_KEY to "
    "the key that Triton was started with"
)

BATCHES = Limits(rows=MAX_BATCH, volume=2048, padding=256)
"""In events. Triton on a core of its own takes about 0.01 ms for an event, padding or not, and
1.5 ms for a call: so a batch takes 20 ms at most, and long behaviors travel apart from short ones
where padding would cost more than another call."""

CHANNEL_OPTIONS = (
    # A Triton that comes back is found within about two seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)


class TritonBehaviorModel:
    """The intent model of a release, as a BehaviorModel: predictions asked for at once are batched.

    A request is put together from bytes. What batches of one shape have in common is serialized
    once, and the tokens of every row are copied once, from where they were made to the request.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        model_name: str,
        max_events: int,
        n_actions: int,
        n_horizons: int,
        embedding_size: int,
        answers: Sequence[str],
        metrics: Metrics | None = None,
    ) -> None:
        self._infer: Any = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=None,  # It is bytes already.
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
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
            answer = await self._infer(self._request(rows), timeout=timeout_s + HANGING_S)
        except grpc.aio.AioRpcError as error:
            unavailable = _unavailable(self._model_name, error)
            if error.code() in _PERHAPS_ONE_ROW:
                raise BatchRefused(unavailable) from error
            raise unavailable from error
        return self._predictions(answer, len(rows))

    def _request(self, rows: Sequence[_Row]) -> bytes:
        """Returns the ModelInferRequest of a batch, every row padded to the longest."""
        length = sequence_length(max(len(behavior) for behavior, _ in rows), self._max_events)
        shape = (len(rows), length)
        frame = self._frames.get(shape)
        if frame is None:
            frame = self._frames[shape] = _Frame.of(self._model_name, self._outputs, *shape)
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

    def _predictions(self, answer: Any, n_rows: int) -> list[Prediction | Exception]:
        outputs = _outputs(self._model_name, answer, self._outputs, n_rows)
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
        version: str = answer.model_version
        predictions: list[Prediction | Exception] = [
            Prediction(actions, purchases, embedding, given, version)
            for actions, purchases, embedding, given in rows
        ]
        for row in _rows_not_finite(outputs):
            why = "its answer is not finite FP32 numbers"
            predictions[row] = ModelUnavailable(self._model_name, why)
        return predictions


_Row = tuple[Behavior, int]
"""A behavior of at most `max_events` events, and the time of the request in unix seconds."""


@dataclass(frozen=True)
class _Frame:
    """What all requests of one shape have in common, as the bytes that go before each tensor.

    It is a ModelInferRequest without its raw tensors, and three times the head of one.
    """

    events: bytes
    event_times: bytes
    request_times: bytes
    event_padding: Sequence[memoryview]
    """What is missing behind so many events."""
    time_padding: Sequence[memoryview]

    @classmethod
    def of(cls, model_name: str, outputs: Iterable[str], n_rows: int, length: int) -> _Frame:
        n_fields = len(EVENT_FIELDS)
        shapes = {
            names.EVENTS: ("INT32", 4, (n_rows, length, n_fields)),
            names.EVENT_TIMES: ("INT64", 8, (n_rows, length)),
            names.REQUEST_TIME: ("INT64", 8, (n_rows, 1)),
        }
        tensors = service_pb2.ModelInferRequest
        request = tensors(
            model_name=model_name,
            inputs=[
                tensors.InferInputTensor(name=name, datatype=datatype, shape=shape)
                for name, (datatype, _, shape) in shapes.items()
            ],
            outputs=[tensors.InferRequestedOutputTensor(name=name) for name in outputs],
        )
        events, times, request_times = (
            _RAW_TENSOR + varint(size * math.prod(shape)) for _, size, shape in shapes.values()
        )
        zeros = memoryview(bytes(length * n_fields * 4))
        missing = range(length, -1, -1)
        return cls(
            request.SerializeToString() + events,
            times,
            request_times,
            [zeros[: n * n_fields * 4] for n in missing],
            [zeros[: n * 8] for n in missing],
        )


_RAW_TENSOR = tag(service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER, LENGTH_DELIMITED)


class TritonContentEncoder:
    """The text encoder and the product tower of a release, as a ContentEncoder.

    Texts are cut into word pieces here, at most `max_text_tokens` of them, and away from the
    event loop.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        text_encoder: str,
        product_encoder: str,
        text_tokenizer: Tokenizer,
        max_text_tokens: int,
        text_embedding_size: int,
        embedding_size: int,
    ) -> None:
        self._inference = _Inference(channel)
        self._text_encoder = text_encoder
        self._product_encoder = product_encoder
        self._word_pieces = text_tokenizer
        self._word_pieces.enable_truncation(max_text_tokens)
        self._word_pieces.enable_padding()
        self._text_embedding_size = text_embedding_size
        self._embedding_size = embedding_size

    async def encode_texts(self, texts: Sequence[str], *, timeout_s: float) -> NDArray[np.float32]:
        """Returns [N, E] embeddings; an empty text is all zeros and costs no call."""
        embeddings = np.zeros((len(texts), self._text_embedding_size), dtype=np.float32)
        rows = [row for row, text in enumerate(texts) if text]
        async with _Timeout(self._text_encoder, timeout_s):
            for start in range(0, len(rows), MAX_TEXTS):
                batch = rows[start : start + MAX_TEXTS]
                embeddings[batch] = await self._encode([texts[row] for row in batch], timeout_s)
        return embeddings

    async def encode_products(
        self,
        product_tokens: NDArray[np.int32],
        text_embeddings: NDArray[np.float32],
        *,
        timeout_s: float,
    ) -> NDArray[np.float32]:
        """Returns [N, D] product embeddings of [N, 7] tokens and [N, E] text embeddings."""
        sizes = {names.PRODUCT_EMBEDDING: self._embedding_size}
        embeddings = np.zeros((len(product_tokens), self._embedding_size), dtype=np.float32)
        async with _Timeout(self._product_encoder, timeout_s):
            for start in range(0, len(product_tokens), MAX_BATCH):
                rows = slice(start, start + MAX_BATCH)
                inputs: dict[str, NDArray[Any]] = {
                    names.PRODUCT_TOKENS: product_tokens[rows],
                    names.TEXT_EMBEDDING: text_embeddings[rows],
                }
                outputs = await _infer(
                    self._inference, self._product_encoder, inputs, sizes, timeout_s=timeout_s
                )
                embeddings[rows] = outputs[names.PRODUCT_EMBEDDING]
        return embeddings

    async def _encode(self, texts: list[str], timeout_s: float) -> NDArray[np.float32]:
        encodings = await asyncio.to_thread(self._word_pieces.encode_batch, texts)
        inputs: dict[str, NDArray[Any]] = {
            names.INPUT_IDS: np.array([each.ids for each in encodings], dtype=np.int64),
            names.ATTENTION_MASK: np.array(
                [each.attention_mask for each in encodings], dtype=np.int64
            ),
        }
        sizes = {names.TEXT_EMBEDDING: self._text_embedding_size}
        outputs = await _infer(
            self._inference, self._text_encoder, inputs, sizes, timeout_s=timeout_s
        )
        return outputs[names.TEXT_EMBEDDING]


class TritonRepository:
    """What Triton serves, as a ModelRepository.

    Triton lets only those load and unload models who have its model control key.
    """

    def __init__(self, channel: grpc.aio.Channel, model_control_key: str | None = None) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._key = model_control_key

    async def load(self, model_name: str, *, timeout_s: float) -> None:
        """Loads the model unless it is served already."""
        if await self._is_ready(model_name, timeout_s):
            return
        request = service_pb2.RepositoryModelLoadRequest(model_name=model_name)
        await self._control(self._stub.RepositoryModelLoad, request, timeout_s)

    async def unload(self, model_name: str, *, timeout_s: float) -> None:
        """Unloads the model if it is served; requests that it is answering are finished."""
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model_name)
        await self._control(self._stub.RepositoryModelUnload, request, timeout_s)

    async def _control(self, call: Any, request: Any, timeout_s: float) -> None:
        if self._key is None:
            raise ModelUnavailable(request.model_name, NO_KEY)
        try:
            await call(request, metadata=((KEY_HEADER, self._key),), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _unavailable(request.model_name, error) from error

    async def _is_ready(self, model_name: str, timeout_s: float) -> bool:
        try:
            answer = await self._stub.ModelReady(
                service_pb2.ModelReadyRequest(name=model_name), timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise _unavailable(model_name, error) from error
        return bool(answer.ready)

    async def describe(self, model_name: str, *, timeout_s: float) -> ModelDescription:
        """Returns the model's configuration as Triton runs it."""
        if not await self._is_ready(model_name, timeout_s):
            raise ModelUnavailable(
                model_name, "Triton has not loaded it; load it from the releases' model_repository"
            )
        try:
            answer = await self._stub.ModelConfig(
                service_pb2.ModelConfigRequest(name=model_name), timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise _unavailable(model_name, error) from error
        config = answer.config
        batched = config.max_batch_size > 0
        return ModelDescription(
            signature=Signature(
                inputs=tuple(_tensor(each, batched) for each in config.input),
                outputs=tuple(_tensor(each, batched) for each in config.output),
            ),
            max_batch_size=config.max_batch_size,
            parameters={key: value.string_value for key, value in config.parameters.items()},
        )


class _Timeout:
    """Ends work of several calls after `timeout_s` seconds, as one ModelUnavailable."""

    def __init__(self, model_name: str, timeout_s: float) -> None:
        self._model_name = model_name
        self._timeout = asyncio.timeout(timeout_s)
        self._why = f"not within {timeout_s:.3f} s"

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        try:
            await self._timeout.__aexit__(*exc_info)
        except TimeoutError as error:
            raise ModelUnavailable(self._model_name, self._why) from error


class _Inference:
    """Calls models, and cancels no call when its caller gives up: that can crash Triton.

    See batching.py. A call that nobody waits for ends by itself, or `HANGING_S` after its time.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._asked: set[asyncio.Future[Any]] = set()

    async def ask(self, request: Any, *, timeout_s: float) -> Any:
        """Returns the answer. Raises AioRpcError; who has less time cancels the wait for it."""
        call = self._stub.ModelInfer(request, timeout=timeout_s + HANGING_S)
        asked = asyncio.ensure_future(call)
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        return await asyncio.shield(asked)


async def _infer(
    inference: _Inference,
    model_name: str,
    inputs: Mapping[str, NDArray[Any]],
    output_sizes: Mapping[str, int],
    *,
    timeout_s: float,
) -> dict[str, NDArray[np.float32]]:
    """Returns the named [B, size] outputs for inputs [B, ...]."""
    request = service_pb2.ModelInferRequest(
        model_name=model_name,
        inputs=[
            service_pb2.ModelInferRequest.InferInputTensor(
                name=name, datatype=_TRITON_TYPES[array.dtype.name], shape=array.shape
            )
            for name, array in inputs.items()
        ],
        outputs=[
            service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name)
            for name in output_sizes
        ],
        raw_input_contents=[np.ascontiguousarray(array).tobytes() for array in inputs.values()],
    )
    try:
        answer = await inference.ask(request, timeout_s=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise _unavailable(model_name, error) from error
    outputs = _outputs(model_name, answer, output_sizes, len(next(iter(inputs.values()))))
    if _rows_not_finite(outputs):
        raise ModelUnavailable(model_name, "its answer is not finite FP32 numbers")
    return outputs


def _outputs(
    model_name: str, answer: Any, sizes: Mapping[str, int], n_rows: int
) -> dict[str, NDArray[np.float32]]:
    """Returns the named [n_rows, size] outputs; they are views of the answer's bytes."""
    tensors = zip(answer.outputs, answer.raw_output_contents, strict=False)
    raw = {tensor.name: content for tensor, content in tensors if tensor.datatype == "FP32"}
    outputs = {}
    for name, size in sizes.items():
        content = raw.get(name, b"")
        if len(content) != 4 * n_rows * size:
            shape = [n_rows, size]
            why = f"its output {name} is not {shape} finite FP32 numbers"
            raise ModelUnavailable(model_name, why)
        outputs[name] = np.frombuffer(content, dtype="<f4").reshape(n_rows, size)
    return outputs


def _rows_not_finite(outputs: Mapping[str, NDArray[np.float32]]) -> list[int]:
    # All numbers at once: one look instead of one for each output.
    arrays: list[Any] = list(outputs.values())  # Which lend their bytes.
    everything = np.frombuffer(b"".join(arrays), dtype="<f4")
    if np.isfinite(everything).all():
        return []
    finite = [np.isfinite(output).all(axis=1) for output in outputs.values()]
    rows: list[int] = np.flatnonzero(~np.logical_and.reduce(finite)).tolist()
    return rows


def _tensor(config: Any, batched: bool) -> Tensor:
    data_type = model_config_pb2.DataType.Name(config.data_type).removeprefix("TYPE_")
    dims = tuple(config.dims)
    return Tensor(config.name, data_type, dims if batched else dims[1:])


def _unavailable(model_name: str, error: grpc.aio.AioRpcError) -> ModelUnavailable:
    return ModelUnavailable(model_name, f"{error.code().name}: {error.details()}")


_PERHAPS_ONE_ROW = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
)
"""What Triton says when a model fails on its input. With other codes it refuses whatever comes."""

_TRITON_TYPES = {"int32": "INT32", "int64": "INT64", "float32": "FP32"}
