"""Keeps the counters of a server: follows what is recorded, and writes down how far it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shopintent.server.errors import StateUnavailable
from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.snapshot import Snapshot
from shopintent.server.popularity.snapshot_file import SnapshotFile
from shopintent.server.sessions import Counted, EventFeed

logger = logging.getLogger(__name__)

FOLLOW_EVERY_S = 1.0
"""For what other processes record; what is recorded here is counted sooner."""
LEAST_BETWEEN_S = 0.05
"""Between two looks, so that a busy server counts many events at a time."""
PAGE_EVENTS = 1_000
WRITE_EVERY_S = 60.0


class PopularityKeeper:
    """Counts what the feed tells, for as long as it runs.

    `category_of` tells the main category of a product, "" for one that is not known.
    """

    def __init__(
        self,
        popularity: Popularity,
        feed: EventFeed,
        category_of: Callable[[str], str],
        file: SnapshotFile | None = None,
        *,
        position: str = "",
    ) -> None:
        self.popularity = popularity
        self._feed = feed
        self._category_of = category_of
        self._file = file
        self._position = position
        self._recorded = asyncio.Event()
        self._complained = ""

    def wake(self) -> None:
        """Says that something was recorded here."""
        self._recorded.set()

    async def begin(self) -> None:
        """Decides where to begin, unless it is told: behind everything recorded so far."""
        if not self._position:
            with self._complaining():
                self._position = await self._feed.newest()

    async def run(self) -> None:
        """Follows the feed, whether or not it can be read at times."""
        written_at = time.monotonic()
        while True:
            self._recorded.clear()
            if not await self.follow():
                await self._wait()
            if time.monotonic() - written_at >= WRITE_EVERY_S:
                written_at = time.monotonic()
                await self.write()

    async def follow(self) -> bool:
        """Counts what comes next in the feed; returns whether there is more."""
        await self.begin()
        if not self._position:
            return False
        events: list[Counted] = []
        with self._complaining():
            page = await self._feed.since(self._position, limit=PAGE_EVENTS)
            self.popularity.count(page.events)
            events, self._position = page.events, page.position
        if self.popularity.is_full:
            self.popularity.trim(self._category_of)
        return len(events) >= PAGE_EVENTS

    async def write(self) -> None:
        """Writes a snapshot, if this is the process that does."""
        self.popularity.trim(self._category_of)
        if self._file is None or not self._position:
            return
        snapshot = Snapshot.of(self.popularity, self._position)
        with self._complaining():
            await asyncio.to_thread(self._file.write, snapshot)

    async def close(self) -> None:
        """Writes a last snapshot."""
        await self.write()
        if self._file is not None:
            self._file.close()

    async def _wait(self) -> None:
        """Returns when something was recorded here, or may have been elsewhere."""
        await asyncio.sleep(LEAST_BETWEEN_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(FOLLOW_EVERY_S):
                await self._recorded.wait()

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Logs what fails, once until something else does; the counters stay as they are."""
        try:
            yield
        except (StateUnavailable, OSError) as error:
            if str(error) != self._complained:
                logger.warning("what is popular is not up to date: %s", error)
            self._complained = str(error)
        except Exception:
            logger.exception("what is popular could not be kept up to date")
        else:
            self._complained = ""
