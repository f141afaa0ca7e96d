"""Gathers what is asked at the same time into batches, and gives every asker its own answer.

A batch leaves at the end of the event loop's turn while few are on their way. What is asked
meanwhile waits until one comes back and leaves together. So a lone question waits for nothing and
batches grow with the load: there is no timer and nothing to tune.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from shopintent.server.errors import Overloaded

Q = TypeVar("Q")
A = TypeVar("A")

Send = Callable[[Sequence[Q], float], Awaitable[Sequence[A | Exception]]]
"""Answers queries in order within so many seconds; an exception is the answer of its query alone.

Raises what keeps all from being answered, or BatchRefused.
"""

SMOOTHING = 0.2
"""The weight of the newest batch in the mean of how long batches take."""

HANDED_OUT_AT_ONCE = 8
"""Each answer wakes a call that then works: so many at once keep the event loop quick to refuse
calls and to notice deadlines while a large batch comes home."""


class BatchRefused(Exception):
    """A batch failed, perhaps for one of its queries; `cause` is the failure of a query alone."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Row(Generic[Q, A]):
    """One query that somebody waits for."""

    __slots__ = ("answer", "batch", "ends_at", "query")

    def __init__(self, query: Q, ends_at: float, answer: asyncio.Future[A]) -> None:
        self.query = query
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
    """A batch on its way, for as long as anybody waits for it."""

    __slots__ = ("n_waiting", "task")

    def __init__(self, n_waiting: int) -> None:
        self.n_waiting = n_waiting
        self.task: asyncio.Task[None] | None = None

    def leave(self) -> None:
        self.n_waiting -= 1
        if self.n_waiting == 0 and self.task is not None:
            self.task.cancel()


class Batcher(Generic[Q, A]):
    """Answers queries in batches of at most `max_rows`, at most `max_in_flight` at a time.

    The longest waiting go first, whatever they ask. At most `max_waiting` wait, and none that is
    not likely to be answered in its time.
    """

    def __init__(
        self,
        send: Send[Q, A],
        *,
        max_rows: int,
        max_in_flight: int = 2,
        max_waiting: int = 1024,
    ) -> None:
        self._send = send
        self._max_rows = max_rows
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        # A dictionary and not a queue: a row that gives up leaves from the middle at no cost.
        self._waiting: dict[_Row[Q, A], None] = {}
        self._in_flight: set[_Batch] = set()
        self._departing = False
        self._batch_s = 0.0

    async def ask(self, query: Q, *, timeout_s: float) -> A:
        """Returns the answer.

        Raises TimeoutError when there is none within `timeout_s` seconds, Overloaded when none can
        be expected, and what was answered in its place.
        """
        if self.expected_wait_s() > timeout_s or len(self._waiting) >= self._max_waiting:
            raise Overloaded()
        loop = asyncio.get_running_loop()
        row = _Row[Q, A](query, loop.time() + timeout_s, loop.create_future())
        self._waiting[row] = None
        self._depart_soon()
        timer = loop.call_at(row.ends_at, row.expire)
        try:
            return await row.answer
        finally:
            timer.cancel()
            if row.batch is None:
                self._waiting.pop(row, None)
            else:
                row.batch.leave()

    def expected_wait_s(self) -> float:
        """Returns how long a query asked now is likely to take; 0 when it would leave at once."""
        if len(self._in_flight) < self._max_in_flight:
            return 0.0
        departures = len(self._waiting) // self._max_rows + 1
        return self._batch_s * (1 + departures / self._max_in_flight)

    def _depart_soon(self) -> None:
        if self._waiting and not self._departing and len(self._in_flight) < self._max_in_flight:
            self._departing = True
            # Not at once: calls that were woken in this turn of the loop come along.
            asyncio.get_running_loop().call_soon(self._depart)

    def _depart(self) -> None:
        self._departing = False
        while self._waiting and len(self._in_flight) < self._max_in_flight:
            rows = list(islice(self._waiting, self._max_rows))
            batch = _Batch(len(rows))
            for row in rows:
                del self._waiting[row]
                row.batch = batch
            self._in_flight.add(batch)
            batch.task = asyncio.create_task(self._travel(batch, rows))
            # A task that is cancelled before it starts says so nowhere else.
            batch.task.add_done_callback(partial(self._ended, batch))

    def _arrive(self, batch: _Batch) -> None:
        self._in_flight.discard(batch)
        self._depart_soon()

    def _ended(self, batch: _Batch, _: asyncio.Task[None]) -> None:
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
