"""One thread that writes what many callers ask for, all that waits at a time as one group.

A group costs about as much as a single write, most of it the commit, so throughput grows with load.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Generic, TypeVar

from shopintent.server.errors import Overloaded, StateUnavailable

logger = logging.getLogger(__name__)

J = TypeVar("J", bound=Sized)
R = TypeVar("R")

TIDY_EVERY_S = 1.0


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[J, R]):
    job: J
    answer: asyncio.Future[R]


class GroupWriter(Generic[J, R]):
    """Writes jobs in the order they came, in groups of about `group_size` by their lengths.

    `write` writes a group, all or none, and answers each job; it runs in the writer's thread, as
    does `tidy`, which is called about once a second and again at once while it returns True and
    no job waits. At most `max_waiting` jobs wait.
    """

    def __init__(
        self,
        write: Callable[[Sequence[J]], Sequence[R]],
        tidy: Callable[[], bool],
        *,
        name: str,
        max_waiting: int,
        group_size: int,
    ) -> None:
        self._write = write
        self._tidy = tidy
        self._max_waiting = max_waiting
        self._group_size = group_size
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Waiting[J, R] | None] = queue.SimpleQueue()
        """None ends the thread, behind everything that waits."""
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, job: J, *, timeout_s: float) -> R:
        """Returns the job's answer once its group is written. Raises what `write` raises.

        Raises Overloaded when too many jobs wait, and TimeoutError after `timeout_s` seconds; a job
        that still waits then, or whose caller is cancelled, is not written.
        """
        if self._waiting.qsize() >= self._max_waiting:
            raise Overloaded()
        waiting: _Waiting[J, R] = _Waiting(job, self._loop.create_future())
        self._waiting.put(waiting)
        async with asyncio.timeout(timeout_s):
            return await waiting.answer

    async def close(self) -> None:
        """Writes what waits and ends the thread."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        tidied_at, more = time.monotonic(), False
        while (group := self._next_group(0.0 if more else TIDY_EVERY_S)) is not None:
            if group:
                self._answer(group)
            if not group or time.monotonic() - tidied_at >= TIDY_EVERY_S:
                more = self._try_to_tidy()
                tidied_at = time.monotonic()

    def _try_to_tidy(self) -> bool:
        try:
            return self._tidy()
        except Exception as error:  # Whatever it is, writing must go on.
            logger.warning("%s could not be tidied: %s", self._thread.name, error)
            return False

    def _next_group(self, patience_s: float) -> list[_Waiting[J, R]] | None:
        """Returns what waits, nothing when nothing comes, None at the end."""
        group: list[_Waiting[J, R]] = []
        size = 0
        try:
            while size < self._group_size:
                waiting = self._waiting.get(block=not group, timeout=patience_s)
                if waiting is None:
                    self._waiting.put(None)
                    return group or None
                if not waiting.answer.cancelled():
                    group.append(waiting)
                    size += len(waiting.job)
        except queue.Empty:
            pass
        return group

    def _answer(self, group: list[_Waiting[J, R]]) -> None:
        answers: Sequence[R | Exception]
        try:
            answers = self._write([waiting.job for waiting in group])
            self._failing = False
        except Overloaded as error:
            answers = [error] * len(group)
        except StateUnavailable as error:
            if not self._failing:
                logger.error("%s", error)
            self._failing = True
            answers = [error] * len(group)
        except Exception as error:
            if len(group) > 1:  # One job may be bad; the others are not to suffer from it.
                for waiting in group:
                    self._answer([waiting])
                return
            answers = [error]
        self._loop.call_soon_threadsafe(_hand_out, group, answers)


def _hand_out(group: list[_Waiting[J, R]], answers: Sequence[R | Exception]) -> None:
    for waiting, answer in zip(group, answers, strict=True):
        if waiting.answer.done():
            continue
        if isinstance(answer, Exception):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set_result(answer)
