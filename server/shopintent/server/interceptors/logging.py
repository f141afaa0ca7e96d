"""One JSON line for every unary call: no message, no id of a visitor, nothing personal."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import grpc

from shopintent.server.interceptors.handlers import Call, code_name, wrap_unary
from shopintent.server.interceptors.request_id import current_request_id

logger = logging.getLogger(__name__)

QUIET = "/grpc.health.v1.Health/"
"""Probes ask every few seconds; their calls are not worth a line."""


class LoggingInterceptor(grpc.aio.ServerInterceptor):
    """Logs method, status, duration and request id."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wraps the call unless it is a health check."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if method.startswith(QUIET):
            return handler
        return wrap_unary(handler, lambda call: _logged(call, method))


def _logged(call: Call, method: str) -> Call:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        started = time.perf_counter()
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
            fields = {
                "method": method,
                "code": code,
                "duration_ms": round(1000 * (time.perf_counter() - started), 3),
                "request_id": current_request_id(),
            }
            logger.info("call", extra={"fields": fields})

    return answer
