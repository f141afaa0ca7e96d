"""What surrounds every call. Layers, outermost first:

request_id   outermost, so that everything inside can name the request
metrics      next, so that durations hold everything but the request id
logging      outside of errors, so that it sees the final status
errors       innermost, so that every layer outside sees a status and never an exception

Calls over the limit of `admission` never get that far. A stream is let in, and its requests are
admitted one by one (see streams.py).
"""

from __future__ import annotations

from typing import Any

import grpc

from shopintent.server.interceptors.admission import (
    ALWAYS_ADMITTED,
    HEARD,
    Admission,
    admitted,
    refusing,
)
from shopintent.server.interceptors.errors import guarded
from shopintent.server.interceptors.handlers import Call, Handler, replace_call, replace_stream
from shopintent.server.interceptors.logging import logged
from shopintent.server.interceptors.metrics import counted
from shopintent.server.interceptors.request_id import identified
from shopintent.server.interceptors.streams import StreamCall, Streams, streamed
from shopintent.server.metrics import Metrics

OURS = "/shopintent."


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Puts all layers around a call.

    gRPC asks it about every call, so it is one for all layers and keeps what it built: a method's
    handler is wrapped when it is first called.
    """

    def __init__(self, metrics: Metrics, admission: Admission, streams: Streams) -> None:
        self._metrics = metrics
        self._admission = admission
        self._streams = streams
        self._surrounded: dict[str, Handler] = {}
        self._refusing: dict[str, Handler] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Returns the handler with everything around it, or one that refuses the call."""
        method = handler_call_details.method
        surrounded = self._surrounded.get(method)
        if surrounded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None  # A name nobody serves is not kept: such could fill the memory.
            surrounded = self._surrounded[method] = self._surround(handler, method)
        refusing = self._refusing.get(method)
        if refusing is None:
            return surrounded  # Always admitted.
        if self._admission.mark in handler_call_details.invocation_metadata:
            return HEARD
        self._admission.called.add(method)
        return refusing if self._admission.is_full else surrounded

    def _surround(self, handler: Handler, method: str) -> Handler:
        # The type stubs know handlers that do not await.
        unary: Call | None = handler.unary_unary  # type: ignore[assignment]
        parse = handler.request_deserializer
        if handler.stream_stream is not None and method.startswith(OURS):
            return self._surround_stream(handler, method)
        if unary is None or parse is None:
            return handler  # Health Watch and reflection stream, and pass untouched.
        call = logged(guarded(unary, parse), method)
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
        stream = logged(guarded(stream, lambda unread: unread), method)
        stream = identified(counted(stream, method, self._metrics))
        surrounded = replace_stream(handler, stream)
        # It is asked how long calls of it stand in line, and refuses its requests itself.
        self._refusing[method] = surrounded
        return surrounded
