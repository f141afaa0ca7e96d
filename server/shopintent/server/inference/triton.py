"""The models of a release on a Triton Inference Server, over one gRPC channel.

The generated stubs that tritonclient ships are used directly: its numpy helpers cost more than
the call. Cancelling a call here cancels it in Triton.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from shopintent.artifacts import signature as names
from shopintent.artifacts.signature import MAX_BATCH, Signature, Tensor
from shopintent.behavior import Behavior
from shopintent.server.errors import ModelUnavailable
from shopintent.server.inference import ModelDescription, Prediction

MAX_TEXTS = 16
"""Texts of one call to the text encoder: a search query waits behind no more than these."""

CHANNEL_OPTIONS = (
    # A Triton that comes back is found within about two seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)


class TritonBehaviorModel:
    """The intent model of a release, as a BehaviorModel."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        model_name: str,
        n_actions: int,
        n_horizons: int,
        embedding_size: int,
    ) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._model_name = model_name
        self._outputs = {
            names.NEXT_ACTION_PROBABILITIES: n_actions,
            names.PURCHASE_PROBABILITIES: n_horizons,
            names.BEHAVIOR_EMBEDDING: embedding_size,
            **dict.fromkeys(names.OPTIONAL_ANSWERS, 1),
        }

    async def predict(
        self, behavior: Behavior, *, request_time: int, timeout_s: float
    ) -> Prediction:
        """Returns the prediction for one windowed behavior."""
        inputs: dict[str, NDArray[Any]] = {
            names.EVENTS: behavior.tokens[None],
            names.EVENT_TIMES: behavior.event_times[None],
            names.REQUEST_TIME: np.array([[request_time]], dtype=np.int64),
        }
        outputs, version = await _infer(
            self._stub, self._model_name, inputs, self._outputs, timeout_s=timeout_s
        )
        return Prediction(
            next_actions=outputs[names.NEXT_ACTION_PROBABILITIES][0],
            purchases=outputs[names.PURCHASE_PROBABILITIES][0],
            behavior_embedding=outputs[names.BEHAVIOR_EMBEDDING][0],
            optional_answers={name: float(outputs[name][0, 0]) for name in names.OPTIONAL_ANSWERS},
            model_version=version,
        )


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
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
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
                outputs, _ = await _infer(
                    self._stub, self._product_encoder, inputs, sizes, timeout_s=timeout_s
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
        outputs, _ = await _infer(
            self._stub, self._text_encoder, inputs, sizes, timeout_s=timeout_s
        )
        return outputs[names.TEXT_EMBEDDING]


class TritonRepository:
    """What Triton serves, as a ModelRepository."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    async def describe(self, model_name: str, *, timeout_s: float) -> ModelDescription:
        """Returns the model's configuration as Triton runs it."""
        try:
            ready = await self._stub.ModelReady(
                service_pb2.ModelReadyRequest(name=model_name), timeout=timeout_s
            )
            if not ready.ready:
                raise ModelUnavailable(
                    model_name,
                    "Triton has not loaded it; load it from the releases' model_repository",
                )
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


async def _infer(
    stub: Any,
    model_name: str,
    inputs: Mapping[str, NDArray[Any]],
    output_sizes: Mapping[str, int],
    *,
    timeout_s: float,
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Returns the named [B, size] outputs for inputs [B, ...], and the model's version."""
    batch_size = len(next(iter(inputs.values())))
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
        answer = await stub.ModelInfer(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise _unavailable(model_name, error) from error
    tensors = zip(answer.outputs, answer.raw_output_contents, strict=False)
    raw = {tensor.name: content for tensor, content in tensors if tensor.datatype == "FP32"}
    outputs = {
        name: _floats(model_name, name, raw.get(name, b""), (batch_size, size))
        for name, size in output_sizes.items()
    }
    return outputs, answer.model_version


def _floats(
    model_name: str, name: str, content: bytes, shape: tuple[int, int]
) -> NDArray[np.float32]:
    array = np.frombuffer(content, dtype="<f4") if len(content) % 4 == 0 else np.empty(0)
    if array.size != shape[0] * shape[1] or not np.isfinite(array).all():
        raise ModelUnavailable(
            model_name, f"its output {name} is not {list(shape)} finite FP32 numbers"
        )
    return array.reshape(shape).astype(np.float32)


def _tensor(config: Any, batched: bool) -> Tensor:
    data_type = model_config_pb2.DataType.Name(config.data_type).removeprefix("TYPE_")
    dims = tuple(config.dims)
    return Tensor(config.name, data_type, dims if batched else dims[1:])


def _unavailable(model_name: str, error: grpc.aio.AioRpcError) -> ModelUnavailable:
    return ModelUnavailable(model_name, f"{error.code().name}: {error.details()}")


_TRITON_TYPES = {"int32": "INT32", "int64": "INT64", "float32": "FP32"}
