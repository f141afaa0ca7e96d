"""One JSON line for every unary call: no message, no id of a visitor, nothing personal."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from shopintent.server.interceptors.handlers import Call, Context, code_name
from shopintent.server.interceptors.request_id import current_request_id

logger = logging.getLogger(__name__)

QUIET = "/grpc.health.v1.Health/"
"""Probes ask every few seconds; their calls are not worth a line."""


def logged(call: Call, method: str) -> Call:
    """Logs method, status, duration and request id, unless it is a health check."""
    if method.startswith(QUIET):
        return call

    async def answer(request: Any, context: Context) -> Any:
        if not logger.isEnabledFor(logging.INFO):
            return await call(request, context)
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
            # In the loop's next turn, when gRPC has the answer: nobody waits for the line.
            asyncio.get_running_loop().call_soon(_log, fields)

    return answer


def _log(fields: dict[str, Any]) -> None:
    logger.info("call", extra={"fields": fields})
