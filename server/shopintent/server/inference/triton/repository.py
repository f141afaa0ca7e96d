"""Which models a Triton serves, over its gRPC service."""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from shopintent.artifacts.signature import Signature, Tensor
from shopintent.server.errors import ModelUnavailable
from shopintent.server.inference import ModelDescription
from shopintent.server.inference.triton.grpc_calls import said

KEY_HEADER = "triton-grpc-protocol-shopintent-model-control"
"""Where Triton looks for the key; it was started with the part after "protocol-"."""
NO_KEY = (
    "Triton has not loaded it, and this server may not: set SHOPINTENT_TRITON_MODEL_CONTROL_KEY to "
    "the key that Triton was started with"
)


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
            raise ModelUnavailable(request.model_name, said(error)) from error

    async def _is_ready(self, model_name: str, timeout_s: float) -> bool:
        try:
            answer = await self._stub.ModelReady(
                service_pb2.ModelReadyRequest(name=model_name), timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise ModelUnavailable(model_name, said(error)) from error
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
            raise ModelUnavailable(model_name, said(error)) from error
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


def _tensor(config: Any, batched: bool) -> Tensor:
    data_type = model_config_pb2.DataType.Name(config.data_type).removeprefix("TYPE_")
    dims = tuple(config.dims)
    return Tensor(config.name, data_type, dims if batched else dims[1:])
