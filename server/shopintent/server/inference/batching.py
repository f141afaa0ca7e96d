"""Gathers what is asked at the same time into batches, and gives every asker its own answer.

A batch leaves at the end of the event loop's turn unless one is on its way. What is asked meanwhile
waits until it comes back and leaves together. So a lone question waits for nothing and batches grow
with the load: there is no timer and nothing to tune.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from shopintent.server.errors import Overloaded
from shopintent.server.metrics import Metrics

Q = TypeVar("Q")
A = TypeVar("A")

Send = Callable[[Sequence[Q], float], Awaitable[Sequence[A | Exception]]]
"""Answers queries in order within so many seconds; an exception is the answer of its query alone.

Raises what keeps all from being answered, or BatchRefused.
"""

SMOOTHING = 0.2
"""The weight of the newest batch in the mean of how long batches take."""

LOOKED_AT = 4
"""Batches' worth of waiting rows that are looked at to fill the next."""

HANDED_OUT_AT_ONCE = 8
"""Each answer wakes a call that then works: so many at once keep the event loop quick to refuse
calls and to notice deadlines while a large batch comes home."""


@dataclass(frozen=True)
class Limits:
    """How large batches and the queue may be. All rows of a batch are as large as its largest."""

    rows: int
    volume: int
    """Rows times the size of the largest: so long does nobody else get an answer."""
    padding: int
    """Of the volume, what is only there to make rows equal: as much as another batch would cost."""
    in_flight: int = 1
    """Batches. A second one would leave half empty, which costs more than the first one's way."""
    waiting: int = 1024
    """Rows."""


class BatchRefused(Exception):
    """A batch failed, perhaps for one of its queries; `cause` is the failure of a query alone."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Row(Generic[Q, A]):
    """One query that somebody waits for."""

    __slots__ = ("answer", "asked_at", "batch", "ends_at", "query", "size")

    def __init__(
        self, query: Q, size: int, asked_at: float, ends_at: float, answer: asyncio.Future[A]
    ) -> None:
        self.query = query
        self.size = size
        self.asked_at = asked_at
        self.ends_at = ends_at
        self.answer = answer
        self.batch: _Batch | None = None

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def expire(self) -> None:
        self.fail(TimeoutError())

    def settle(self, answer: A | Exception) -> None:
        if isinstance(answer, Exception):
            self.fail(answer)
        elif not self.answer.done():
            self.answer.set_result(answer)


class _Batch:
    """A batch on its way, and how many still wait for it."""

    __slots__ = ("n_waiting",)

    def __init__(self, n_waiting: int) -> None:
        self.n_waiting = n_waiting


class Batcher(Generic[Q, A]):
    """Answers queries in batches; `size_of` tells how large a query is.

    The longest waiting leaves first, whatever its size, with whatever fits it in the order of
    waiting. None waits that is not likely to be answered in its time.
    """

    def __init__(
        self,
        send: Send[Q, A],
        limits: Limits,
        *,
        size_of: Callable[[Q], int],
        metrics: Metrics | None = None,
    ) -> None:
        self._send = send
        self._limits = limits
        self._metrics = metrics or Metrics()
        self._size_of = size_of
        # A dictionary and not a queue: a row that gives up leaves from the middle at no cost.
        self._waiting: dict[_Row[Q, A], None] = {}
        self._waiting_volume = 0
        self._in_flight: set[_Batch] = set()
        self._traveling: set[asyncio.Task[None]] = set()
        """Those in flight, and those that nobody waits for."""
        self._departing = False
        self._batch_s = 0.0

    async def ask(self, query: Q, *, timeout_s: float) -> A:
        """Returns the answer.

        Raises TimeoutError when there is none within `timeout_s` seconds, Overloaded when none can
        be expected, and what was answered in its place.
        """
        if self.expected_wait_s() > timeout_s or len(self._waiting) >= self._limits.waiting:
            raise Overloaded()
        loop = asyncio.get_running_loop()
        size = self._size_of(query)
        now = loop.time()
        row = _Row[Q, A](query, size, now, now + timeout_s, loop.create_future())
        self._waiting[row] = None
        self._waiting_volume += size
        self._depart_soon()
        timer = loop.call_at(row.ends_at, row.expire)
        try:
            return await row.answer
        finally:
            timer.cancel()
            if row.batch is None:
                self._take(row)
            else:
                self._leave(row.batch)

    def expected_wait_s(self) -> float:
        """Returns how long a query asked now is likely to take; 0 when it would leave at once."""
        limits = self._limits
        if len(self._in_flight) < limits.in_flight:
            return 0.0
        rows, volume = len(self._waiting) // limits.rows, self._waiting_volume // limits.volume
        return self._batch_s * (1 + (1 + max(rows, volume)) / limits.in_flight)

    def _depart_soon(self) -> None:
        if self._waiting and not self._departing and self._may_depart():
            self._departing = True
            # Not at once: calls that were woken in this turn of the loop come along.
            asyncio.get_running_loop().call_soon(self._depart)

    def _may_depart(self) -> bool:
        return len(self._in_flight) < self._limits.in_flight

    def _next_rows(self) -> list[_Row[Q, A]]:
        """Returns the row that waits longest and all that may travel with it."""
        rows: list[_Row[Q, A]] = []
        largest = needed = 0
        # What does not fit is skipped: it is nearer to the front the next time.
        for row in islice(self._waiting, LOOKED_AT * self._limits.rows):
            volume = max(largest, row.size) * (len(rows) + 1)
            padding = volume - needed - row.size
            if rows and (volume > self._limits.volume or padding > self._limits.padding):
                continue
            rows.append(row)
            largest, needed = max(largest, row.size), needed + row.size
            if len(rows) == self._limits.rows:
                break
        return rows

    def _take(self, row: _Row[Q, A]) -> None:
        del self._waiting[row]
        self._waiting_volume -= row.size

    def _depart(self) -> None:
        self._departing = False
        now = asyncio.get_running_loop().time()
        while self._waiting and self._may_depart():
            rows = self._next_rows()
            batch = _Batch(len(rows))
            for row in rows:
                self._take(row)
                row.batch = batch
                self._metrics.queue_wait.observe(now - row.asked_at)
            self._metrics.batch_rows.observe(len(rows))
            self._in_flight.add(batch)
            traveling = asyncio.create_task(self._travel(batch, rows))
            self._traveling.add(traveling)
            traveling.add_done_callback(self._traveling.discard)

    def _arrive(self, batch: _Batch) -> None:
        self._in_flight.discard(batch)
        self._depart_soon()

    def _leave(self, batch: _Batch) -> None:
        """Lets the next batch go when nobody waits for this one any more.

        It is not cancelled: a Triton of before 24.12 can crash when a call is cancelled while it
        answers (triton-inference-server/server#8034), and what it answers is thrown away.
        """
        batch.n_waiting -= 1
        if not batch.n_waiting:
            self._arrive(batch)

    async def _travel(self, batch: _Batch, rows: Sequence[_Row[Q, A]]) -> None:
        """Gets the answers, lets the next batch leave, and hands the answers out."""
        started = time.monotonic()
        answers = await self._answers(rows)
        self._batch_s += SMOOTHING * (time.monotonic() - started - self._batch_s)
        self._arrive(batch)
        for position, (row, answer) in enumerate(zip(rows, answers, strict=True), start=1):
            row.settle(answer)
            if position % HANDED_OUT_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _answers(self, rows: Sequence[_Row[Q, A]]) -> Sequence[A | Exception]:
        timeout_s = max(row.ends_at for row in rows) - asyncio.get_running_loop().time()
        try:
            return await self._send([row.query for row in rows], timeout_s)
        except BatchRefused as refused:
            if len(rows) == 1:
                return [refused.cause]
            # Halves, until the query that did it stands alone: its neighbours get answers.
            half = len(rows) // 2
            return [*await self._answers(rows[:half]), *await self._answers(rows[half:])]
        except Exception as error:
            return [error] * len(rows)
