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
LATE_S = 0.02
"""By which a call may be logged late."""
MOST_CALLS = 1_000


class CallLog:
    """Logs calls many at a time: one by one their lines are a seventh of all that calls cost."""

    def __init__(self) -> None:
        self._ended: list[tuple[float, dict[str, Any]]] = []

    def ended(self, **fields: Any) -> None:
        """Logs a call that ended now, with these fields, soon."""
        if not self._ended:
            asyncio.get_running_loop().call_later(LATE_S, self.flush)
        self._ended.append((time.time(), fields))
        if len(self._ended) >= MOST_CALLS:
            self.flush()

    def flush(self) -> None:
        """Logs what there is."""
        ended, self._ended = self._ended, []
        if ended:
            logger.info("call", extra={"each": ended})


def logged(call: Call, method: str, log: CallLog) -> Call:
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
            log.ended(
                method=method,
                code=code,
                duration_ms=round(1000 * (time.perf_counter() - started), 3),
                request_id=current_request_id(),
            )

    return answer
