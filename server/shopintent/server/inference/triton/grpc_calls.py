"""Calls of models over Triton's gRPC service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from shopintent.server.inference.triton.calls import Answer, CallFailed, InputTensor
from shopintent.server.wire import LENGTH_DELIMITED, tag, varint

CHANNEL_OPTIONS = (
    # A Triton that comes back is found within about two seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)

_RAW_TENSOR = tag(service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER, LENGTH_DELIMITED)
_PERHAPS_ONE_ROW = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
)
"""What Triton says when a model fails on its input. With other codes it refuses whatever comes."""


class GrpcCalls:
    """ModelCalls over a gRPC channel, which need not be connected."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._infer: Any = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=None,  # It is bytes already.
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        self._asked: set[asyncio.Future[Any]] = set()

    def heads(
        self, model_name: str, inputs: Sequence[InputTensor], outputs: Sequence[str]
    ) -> tuple[bytes, ...]:
        """Returns a ModelInferRequest without its raw tensors, cut where each belongs."""
        tensors = service_pb2.ModelInferRequest
        request = tensors(
            model_name=model_name,
            inputs=[
                tensors.InferInputTensor(name=each.name, datatype=each.datatype, shape=each.shape)
                for each in inputs
            ],
            outputs=[tensors.InferRequestedOutputTensor(name=name) for name in outputs],
        )
        first, *others = (_RAW_TENSOR + varint(each.n_bytes) for each in inputs)
        return (request.SerializeToString() + first, *others)

    async def ask(self, request: bytes, *, timeout_s: float) -> Answer:
        """Returns the answer. Raises CallFailed."""
        # gRPC would tell Triton of it if the one who waits were cancelled.
        asked = asyncio.ensure_future(self._infer(request, timeout=timeout_s))
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        try:
            answer = await asyncio.shield(asked)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(
                said(error), perhaps_one_row=error.code() in _PERHAPS_ONE_ROW
            ) from error
        tensors = zip(answer.outputs, answer.raw_output_contents, strict=False)
        return Answer(
            {tensor.name: content for tensor, content in tensors if tensor.datatype == "FP32"},
            answer.model_version,
        )


def said(error: grpc.aio.AioRpcError) -> str:
    """Returns why a call failed."""
    return f"{error.code().name}: {error.details()}"
