"""Counts every unary call: in flight, and when it ends its status and duration."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from shopintent.server.interceptors.handlers import Call, code_name, wrap_unary
from shopintent.server.metrics import Metrics


class MetricsInterceptor(grpc.aio.ServerInterceptor):
    """Counts calls; it sees final statuses, so it belongs outside of the errors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wraps the call."""
        method = handler_call_details.method.removeprefix("/")
        handler = await continuation(handler_call_details)
        return wrap_unary(handler, lambda call: _counted(call, method, self._metrics))


def _counted(call: Call, method: str, metrics: Metrics) -> Call:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        started = time.perf_counter()
        metrics.call_started(method)
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
            metrics.call_ended(method, code, time.perf_counter() - started)

    return answer
