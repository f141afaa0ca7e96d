"""Moves what stores recorded to the event log: of all server processes one does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import IO, Protocol

from shopintent.artifacts.event_log import LogRecord
from shopintent.server.errors import ShopIntentError
from shopintent.server.event_log import EventLog
from shopintent.server.event_log.due import is_due
from shopintent.server.event_log.files import (
    DRAINER_LOCK,
    WRITE_LOCK,
    EventLogError,
    make_folders,
    try_lock,
)
from shopintent.server.event_log.products import ProductsFile
from shopintent.server.event_log.segments import SegmentWriter
from shopintent.server.sessions import RecordSource

logger = logging.getLogger(__name__)

BATCH = 10_000
MANY = 500
"""After so many records more are looked for at once: a source may hand out less than it has."""
POLL_S = 0.5
"""Between looks for records."""
TAKE_OVER_S = 1.0
"""Between tries to become the one that writes."""
AGAIN_S = 5.0
"""After a failure, such as a full disk; records wait in their store meanwhile."""
LOCK_S = 0.02
"""Between tries to take the lock of writing."""
UPKEEP_S = 60.0
"""Between looks whether a day is finished."""
CLOSING_S = 5.0
"""What the last records may take when the server stops; others write them otherwise."""

WRITING, KEEPING_UP = "the event log is not written", "the event log is not kept up"
EXPECTED = (OSError, EventLogError, ShopIntentError)


class Counts(Protocol):
    """What is told of the log."""

    def log_written(self, records: int) -> None:
        """Counts records that are in the log now."""

    def log_failed(self) -> None:
        """Counts a failure; what could not be written waits."""

    def log_waits(self, seconds: float) -> None:
        """Says how long the oldest record waits that is not in the log."""


class LogDrainer:
    """Writes records to a log while this process is the one that does, and keeps its files."""

    def __init__(
        self,
        log: EventLog,
        source: RecordSource,
        counts: Counts,
        *,
        kept_days: int,
        poll_s: float = POLL_S,
        products: ProductsFile | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._source = source
        self._counts = counts
        self._kept_days = kept_days
        self._poll_s = poll_s
        self._products = products
        self._clock = clock
        self._writer = SegmentWriter(log.folder)
        self._stopping = asyncio.Event()
        self._complained: set[str] = set()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to write, or to wait until whoever writes is gone, until `close`."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ends once what waits is written, and not in the middle of writing."""
        self._stopping.set()
        if self._running is not None:
            await self._running

    async def drain(self) -> int:
        """Writes the records that wait, at most BATCH, and returns how many there were.

        A record is looked for with the lock held: once somebody else had it, what was deleted
        from the source before is never written any more.
        """
        async with self._writing():
            records = await self._source.waiting(limit=BATCH)
            if not records:
                self._counts.log_waits(0.0)
                return 0
            self._counts.log_waits(max(0.0, self._clock() - records[0].received_at))
            self._counts.log_written(await self._append(records))
            await self._source.logged(records)
        return len(records)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            lock: IO[bytes] | None = None
            try:
                make_folders(self._log.folder)
                lock = try_lock(self._log.folder / DRAINER_LOCK)
                if lock is None:
                    self._counts.log_waits(0.0)  # Whoever writes tells.
                else:
                    await self._drain_until_stopped()
            except Exception as error:
                self._failed(WRITING, error)
                await self._pause(AGAIN_S)
            finally:
                self._writer.close()
                if lock is not None:
                    lock.close()
            await self._pause(TAKE_OVER_S)

    async def _drain_until_stopped(self) -> None:
        upkeep = asyncio.create_task(self._keep_up())
        try:
            while not self._stopping.is_set():
                if await self.drain() < MANY:
                    await self._pause(self._poll_s)
                self._complained.discard(WRITING)
            ends_at = time.monotonic() + CLOSING_S
            while await self.drain() >= MANY and time.monotonic() < ends_at:
                pass
        finally:
            upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await upkeep

    async def _append(self, records: Sequence[LogRecord]) -> int:
        appending = asyncio.create_task(asyncio.to_thread(self._writer.append, records))
        try:
            return await asyncio.shield(appending)
        except asyncio.CancelledError:
            # The lock is let go of next: not while a thread still writes.
            await asyncio.wait([appending])
            raise

    async def _keep_up(self) -> None:
        """Looks after the files, and writes what the catalog changed beside them."""
        while True:
            try:
                if await asyncio.to_thread(
                    is_due, self._log.folder, self._kept_days, self._clock()
                ):
                    await self._log.keep_up(self._kept_days)
                if self._products is not None:
                    await self._products.write()
                self._complained.discard(KEEPING_UP)
            except Exception as error:
                self._failed(KEEPING_UP, error)
            await asyncio.sleep(UPKEEP_S)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Holds the lock of whoever writes; it is never held long."""
        while (lock := try_lock(self._log.folder / WRITE_LOCK)) is None:  # noqa: ASYNC110
            await asyncio.sleep(LOCK_S)
        try:
            yield
        finally:
            lock.close()

    def _failed(self, doing: str, error: Exception) -> None:
        """Logs the first of failures that are alike until it goes well again; counts all."""
        self._counts.log_failed()
        if doing not in self._complained:
            self._complained.add(doing)
            told = "%s: %s; nothing is lost, and it is tried again"
            logger.error(told, doing, error, exc_info=not isinstance(error, EXPECTED))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
