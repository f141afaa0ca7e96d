"""Counts every unary call: in flight, and when it ends its status and duration."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from shopintent.server.interceptors.handlers import Call, Context, code_name
from shopintent.server.metrics import Metrics


def counted(call: Call, method: str, metrics: Metrics) -> Call:
    """Counts the calls of a method; it sees final statuses, so it belongs outside of the errors."""
    name = method.removeprefix("/")

    async def answer(request: Any, context: Context) -> Any:
        started = time.perf_counter()
        metrics.call_started(name)
        code = "OK"
        try:
            return await call(request, context)
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except BaseException:
            code = code_name(context)
            raise
        finally:
            metrics.call_ended(name, code, time.perf_counter() - started)

    return answer
