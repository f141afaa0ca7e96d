"""How an interceptor wraps a unary call; health Watch and reflection stream and pass untouched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

Call = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]
"""What answers a unary call."""

_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def wrap_unary(
    handler: grpc.RpcMethodHandler[Any, Any] | None, wrap: Callable[[Call], Call]
) -> grpc.RpcMethodHandler[Any, Any] | None:
    """Returns the handler with its call wrapped, or as it is when it is not unary or not there."""
    if handler is None or handler.unary_unary is None:
        return handler
    return grpc.unary_unary_rpc_method_handler(
        wrap(handler.unary_unary),  # type: ignore[arg-type]
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def code_name(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Returns the name of the status that a call was ended with."""
    code: Any = context.code()
    # grpc.aio gives the number of the code that a call was aborted with.
    return code.name if isinstance(code, grpc.StatusCode) else _CODE_NAMES.get(code, "UNKNOWN")
