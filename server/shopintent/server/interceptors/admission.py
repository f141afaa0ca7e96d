"""Turns calls away while there are more than can be answered well within their time.

How many those are is found out, as TCP finds out what a network takes: calls that end early raise
the limit little by little, one that ends late lowers it at once. A call that is turned away costs a
small part of one that is answered.

Calls wait most where the server cannot see them: gRPC accepts them one by one, and those it has not
accepted yet stand in line. So the server asks itself how long that takes (see lookout.py), and once
there is more to do than it can, keeps the line short enough to turn calls away promptly.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any

import grpc
from grpc_status import rpc_status

from shopintent.server.errors import Overloaded
from shopintent.server.interceptors.errors import to_status
from shopintent.server.interceptors.handlers import Call, Context, Handler
from shopintent.server.interceptors.request_id import identified
from shopintent.server.metrics import REFUSED, Metrics

logger = logging.getLogger(__name__)

ALWAYS_ADMITTED = (
    "/grpc.",
    "/shopintent.v1.CatalogService/",
    "/shopintent.v1.ReleaseService/",
    "/shopintent.v1.VisitorService/",
)
"""Health, reflection and a rollback must answer most of all when there is too much to do; writes of
the catalog, checks of releases and deletions take long by nature, and say nothing of how busy the
server is.
"""

BUSY = 8
"""Calls at once from which on a line may form."""
EARLY = 0.7
"""The share of its time that a call may take before it counts as late. It is more than Recommend
gives the model: a model that hangs must bring popular products, and not refusals."""
GROWTH = 0.05
"""What an early call adds to the limit: 5 % for a round of all calls."""
LOWEST = 0.5
"""What a late call leaves of the limit, at least."""
PROMPT_S = 0.005
"""How long a call may stand in line once calls are turned away."""
CALM_S = 3.0
"""Seconds without a refusal after which the server is no longer overloaded."""
QUIET_S = 10.0
"""Seconds without a refusal after which the next one is worth a line in the log."""


class Admission:
    """How many calls are answered at once: at most `most`, and fewer as soon as calls end late.

    `timeout_s` is the time of a call that does not say how much it has.
    """

    def __init__(self, *, most: int, timeout_s: float) -> None:
        self.mark = ("x-shopintent-lookout", secrets.token_hex(16))
        """The metadata that calls of the server to itself carry, and nobody else knows."""
        self._most = most
        self._timeout_s = timeout_s
        self._limit = float(most)
        self._n_calls = 0
        self._line_s = 0.0
        self._overloaded = False
        self._lowered_at = 0.0
        self._refused_at = 0.0
        self._said_at = -QUIET_S

    @property
    def is_full(self) -> bool:
        """Whether the next call is to be turned away."""
        return self._n_calls >= self._limit

    @property
    def is_busy(self) -> bool:
        """Whether it matters how long calls stand in line."""
        return self._overloaded or self._n_calls >= BUSY

    def enter(self) -> float:
        """Counts a call in; returns the time, for `leave`."""
        self._n_calls += 1
        return time.monotonic()

    def leave(self, entered_at: float, time_s: float | None) -> None:
        """Counts it out; `time_s` is what it had when it entered."""
        now = time.monotonic()
        # It stood in line before, and its time went by.
        had_s = min((time_s or self._timeout_s) + self._line_s, self._timeout_s)
        used = (now - entered_at + self._line_s) / max(had_s, 0.001)
        if used > EARLY:
            # Calls that entered before the limit was lowered tell of what was before.
            if entered_at > self._lowered_at:
                self._lower(EARLY / used)
        elif not self._overloaded and self._n_calls > self._limit / 2:
            # That calls end early where there are few says nothing about the limit.
            self._limit = min(self._most, self._limit + GROWTH)
        self._n_calls -= 1

    def stood_in_line(self, line_s: float) -> None:
        """Notes how long a call stood in line just now."""
        self._line_s = line_s
        allowed_s = PROMPT_S if self._overloaded else EARLY * self._timeout_s
        if line_s > allowed_s:
            self._lower(allowed_s / line_s)
        elif self._overloaded:
            if time.monotonic() - self._refused_at > CALM_S:
                self._overloaded = False
            self._limit = min(self._most, self._limit + max(1.0, GROWTH * self._limit))

    def refused(self) -> None:
        """Notes a refusal; of those that follow each other the first is said in the log."""
        now = self._refused_at = time.monotonic()
        if now - self._said_at > QUIET_S:
            fields = {"calls": self._n_calls, "line_ms": round(1000 * self._line_s, 1)}
            logger.warning("turning calls away", extra={"fields": fields})
        self._said_at = now

    def _lower(self, share: float) -> None:
        self._limit = max(1.0, min(self._limit, self._n_calls) * max(LOWEST, share))
        self._lowered_at = self._refused_at = time.monotonic()
        self._overloaded = True


def admitted(call: Call, admission: Admission) -> Call:
    """Counts the calls that are being answered, and how they fare."""

    async def answer(request: Any, context: Context) -> Any:
        time_s = context.time_remaining()
        entered_at = admission.enter()
        try:
            return await call(request, context)
        finally:
            admission.leave(entered_at, time_s)

    return answer


async def _hear(_: Any, __: Context) -> bytes:
    return b""


LOOKOUT = "/shopintent.server/Lookout"
"""What the server calls to ask itself; to all others there is no such method."""
HEARD: Handler = grpc.stream_unary_rpc_method_handler(_hear)
"""Answers the lookout: as soon as a call is heard of, without reading it."""


def refusing(method: str, metrics: Metrics, admission: Admission) -> Handler:
    """Returns a handler that refuses calls of a method, as cheaply as gRPC lets it."""
    status: Any = rpc_status.to_status(to_status(Overloaded()))
    name = method.removeprefix("/")

    async def refuse(_: Any, context: Context) -> None:
        metrics.call_started(name)
        admission.refused()
        # Set and not aborted with: an exception on its way out costs more than all of this.
        context.set_code(status.code)
        context.set_details(status.details)
        context.set_trailing_metadata((*context.trailing_metadata(), *status.trailing_metadata))
        metrics.call_ended(name, REFUSED, 0.0)

    # As one that takes a stream it is called before the request is read, which saves a turn; and
    # one that answers a stream may end without a message, so that nothing but the status is sent.
    return grpc.stream_stream_rpc_method_handler(identified(refuse))
