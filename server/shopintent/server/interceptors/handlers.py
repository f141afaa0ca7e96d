"""The calls that layers surround. A layer takes what answers a call and returns what does more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Call: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""What answers a unary call."""
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def replace_call(handler: Handler, call: Call) -> Handler:
    """Returns a handler that answers with the call, which takes the bytes of the request."""
    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=None,
        response_serializer=handler.response_serializer,
    )


def replace_stream(handler: Handler, call: Call) -> Handler:
    """Returns a handler whose call reads bytes and writes messages through its context."""
    # The type stubs know handlers that are given an iterator and return one.
    answer: Any = call
    return grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=None,
        response_serializer=handler.response_serializer,
    )


def code_name(context: Context) -> str:
    """Returns the name of the status that a call was ended with."""
    code: Any = context.code()
    # grpc.aio gives the number of the code that a call was aborted with.
    return code.name if isinstance(code, grpc.StatusCode) else _CODE_NAMES.get(code, "UNKNOWN")
