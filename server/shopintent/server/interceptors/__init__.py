"""What surrounds every call. Layers, outermost first:

request_id   outermost, so that everything inside can name the request
metrics      next, so that durations hold everything but the request id
logging      outside of errors, so that it sees the final status
errors       innermost, so that every layer outside sees a status and never an exception

Calls over the limit of `admission` never get that far. A stream is let in, and its requests are
admitted one by one (see streams.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from shopintent.server.interceptors.admission import (
    ALWAYS_ADMITTED,
    HEARD,
    LOOKOUT,
    Admission,
    admitted,
    refusing,
)
from shopintent.server.interceptors.errors import guarded
from shopintent.server.interceptors.handlers import Call, Handler, replace_call, replace_stream
from shopintent.server.interceptors.logging import CallLog, logged
from shopintent.server.interceptors.metrics import counted
from shopintent.server.interceptors.request_id import identified
from shopintent.server.interceptors.streams import StreamCall, Streams, streamed
from shopintent.server.metrics import Metrics

OURS = "/shopintent."
HEALTH = "grpc.health.v1.Health"


class Calls(grpc.GenericRpcHandler):
    """Every method of the server, with all layers around each.

    Services are added to it as to a server: `add_HealthServicer_to_server(servicer, calls)`; then
    `add_to` makes it the one handler of the server. gRPC's own interceptors would cost each call a
    coroutine more. And where methods are registered, each has a line of calls of its own, and all
    these lines are waited for anew with every call; here all methods stand in one line. Only health
    keeps its own, so that probes pass by whatever else there is to do.
    """

    def __init__(self, metrics: Metrics, admission: Admission, streams: Streams) -> None:
        self._metrics = metrics
        self._admission = admission
        self._streams = streams
        self._log = CallLog()
        self._surrounded: dict[str, Handler] = {}
        self._refusing: dict[str, Handler] = {}
        self._health: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Takes no notice: generated code names the same methods once more with the next call."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Adds the methods of a service."""
        surrounded = {
            name: self._surround(handler, f"/{service}/{name}")
            for name, handler in handlers.items()
        }
        if service == HEALTH:
            self._health = surrounded
        self._surrounded |= {f"/{service}/{name}": each for name, each in surrounded.items()}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Lets the server, which must not have started yet, answer calls of these methods."""
        server.add_generic_rpc_handlers((self,))
        if self._health:
            server.add_registered_method_handlers(HEALTH, self._health)

    def close(self) -> None:
        """Logs the last calls; the server must have stopped."""
        self._log.flush()

    def service(self, handler_call_details: Any) -> Handler | None:
        """Returns the handler with everything around it, or one that refuses the call."""
        method: str = handler_call_details.method
        if method == LOOKOUT:
            is_ours = self._admission.mark in handler_call_details.invocation_metadata
            return HEARD if is_ours else None
        if self._admission.is_full and method in self._refusing:
            return self._refusing[method]
        return self._surrounded.get(method)

    def _surround(self, handler: Handler, method: str) -> Handler:
        # The type stubs know handlers that do not await.
        unary: Call | None = handler.unary_unary  # type: ignore[assignment]
        parse = handler.request_deserializer
        if handler.stream_stream is not None and method.startswith(OURS):
            return self._surround_stream(handler, method)
        if unary is None or parse is None:
            return handler  # Health Watch and reflection stream, and pass untouched.
        call = logged(guarded(unary, parse), method, self._log)
        if not method.startswith(ALWAYS_ADMITTED):
            call = admitted(call, self._admission)
            self._refusing[method] = refusing(method, self._metrics, self._admission)
        call = identified(counted(call, method, self._metrics))
        return replace_call(handler, call)

    def _surround_stream(self, handler: Handler, method: str) -> Handler:
        call: StreamCall = handler.stream_stream  # type: ignore[assignment]
        parse = handler.request_deserializer
        assert parse is not None
        stream = streamed(call, parse, self._streams, self._admission, self._metrics)
        stream = logged(guarded(stream, lambda unread: unread), method, self._log)
        stream = identified(counted(stream, method, self._metrics))
        return replace_stream(handler, stream)  # It refuses its requests itself.
