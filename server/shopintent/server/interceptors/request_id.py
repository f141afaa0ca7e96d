"""Gives every call an id: the caller's `x-request-id` when it is usable, else a new one."""

from __future__ import annotations

import random
import re
from contextvars import ContextVar
from typing import Any

from shopintent.server.interceptors.handlers import Call, Context

METADATA_KEY = "x-request-id"

USABLE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""Short enough for an attribution token, and nothing that could forge a log line."""

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Returns the id of the call being answered; empty outside of one."""
    return _request_id.get()


def set_request_id(request_id: str) -> None:
    """Names what the call does from now on: of a stream each request has an id of its own."""
    _request_id.set(request_id)


def identified(call: Call) -> Call:
    """Sets the request id for everything inside, and sends it back with the answer."""

    async def answer(request: Any, context: Context) -> Any:
        request_id = _offered(context) or new_request_id()
        # Every call runs in a context of its own, which ends with it.
        set_request_id(request_id)
        context.set_trailing_metadata(((METADATA_KEY, request_id),))
        return await call(request, context)

    return answer


def new_request_id() -> str:
    """Returns 32 hexadecimal digits at random; they tell calls apart and are no secret."""
    return f"{random.getrandbits(128):032x}"  # A tenth of the cost of a UUID.


def _offered(context: Context) -> str:
    """Returns the caller's id; empty when there is none or it is unusable."""
    for key, value in context.invocation_metadata() or ():
        if key == METADATA_KEY:
            offered = str(value)
            return offered if USABLE.fullmatch(offered) else ""
    return ""
