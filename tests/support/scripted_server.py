"""A gRPC server that answers every RPC of shopintent from a script, for tests of the client."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Self

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from shopintent.v1 import (
    catalog_service_pb2,
    event_service_pb2,
    recommendation_service_pb2,
    release_service_pb2,
    visitor_service_pb2,
)

Metadata = tuple[tuple[str, str | bytes], ...]


def services() -> list[ServiceDescriptor]:
    """Returns every service of the contract."""
    files = (
        catalog_service_pb2,
        event_service_pb2,
        recommendation_service_pb2,
        release_service_pb2,
        visitor_service_pb2,
    )
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


class ScriptedServer:
    """Listens on a free loopback port, answers in order of the script and keeps the requests.

    `calls` holds the requests of each call: those of a stream are together.
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.requests: list[Any] = []
        self.calls: list[list[Any]] = []
        self.time_remaining_s: list[float] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self._answers: deque[tuple[Message | grpc.Status, float, Metadata]] = deque()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        for service in services():
            handlers = {method.name: self._handler(method) for method in service.methods}
            handler = grpc.method_handlers_generic_handler(service.full_name, handlers)
            self._server.add_generic_rpc_handlers((handler,))
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.target = f"localhost:{port}" if credentials else f"127.0.0.1:{port}"

    def script(
        self,
        *answers: Message | grpc.Status,
        delay_s: float = 0.0,
        trailing_metadata: Metadata = (),
    ) -> None:
        """Adds answers: a response, or a status to fail with, which ends a stream, as OK may."""
        self._answers.extend((answer, delay_s, trailing_metadata) for answer in answers)

    def stop(self) -> None:
        """Stops listening; running calls fail."""
        self._server.stop(grace=None).wait()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        request_type = message_factory.GetMessageClass(method.input_type)
        deserialize: Callable[[bytes], Message] = request_type.FromString
        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._answer_each,
                request_deserializer=deserialize,
                response_serializer=lambda response: response.SerializeToString(),
            )
        return grpc.unary_unary_rpc_method_handler(
            self._answer_one,
            request_deserializer=deserialize,
            response_serializer=lambda response: response.SerializeToString(),
        )

    def _answer_one(self, request: Message, context: grpc.ServicerContext) -> Message:
        self.calls.append([])
        return self._answer(request, context)

    def _answer_each(
        self, requests: Iterator[Message], context: grpc.ServicerContext
    ) -> Iterator[Message]:
        self.calls.append([])
        for request in requests:
            if getattr(self._answers[0][0], "code", None) is grpc.StatusCode.OK:
                self._answers.popleft()
                return
            yield self._answer(request, context)

    def _answer(self, request: Message, context: grpc.ServicerContext) -> Message:
        self.requests.append(request)
        self.calls[-1].append(request)
        self.time_remaining_s.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        answer, delay_s, trailing_metadata = self._answers.popleft()
        time.sleep(delay_s)
        if isinstance(answer, Message):
            return answer
        context.set_trailing_metadata((*answer.trailing_metadata, *trailing_metadata))
        context.abort(answer.code, answer.details)
