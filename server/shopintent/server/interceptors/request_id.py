"""Gives every call an id: the caller's `x-request-id` when it is usable, else a new one."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar
from typing import Any

import grpc

from shopintent.server.interceptors.handlers import Call, wrap_unary

METADATA_KEY = "x-request-id"

USABLE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""Short enough for an attribution token, and nothing that could forge a log line."""

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Returns the id of the call being answered; empty outside of one."""
    return _request_id.get()


class RequestIdInterceptor(grpc.aio.ServerInterceptor):
    """Sets the request id for everything inside, and sends it back with the answer."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wraps the call."""
        metadata = dict(handler_call_details.invocation_metadata)
        return wrap_unary(
            await continuation(handler_call_details), lambda call: _identified(call, metadata)
        )


def _identified(call: Call, metadata: dict[str, Any]) -> Call:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        offered = str(metadata.get(METADATA_KEY, ""))
        request_id = offered if USABLE.fullmatch(offered) else uuid.uuid4().hex
        token = _request_id.set(request_id)
        try:
            context.set_trailing_metadata(((METADATA_KEY, request_id),))
            return await call(request, context)
        finally:
            _request_id.reset(token)

    return answer
