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
from shopintent.server.sessions import EventFeed, FeedPage

logger = logging.getLogger(__name__)

FOLLOW_EVERY_S = 1.0
"""For what other processes record; what is recorded here is counted sooner."""
LEAST_BETWEEN_S = 0.1
"""Between two looks that found little, so that a busy server counts many events at a time."""
PAGE_EVENTS = 1_000
"""Counting so many takes about 1 ms."""
WRITE_EVERY_S = 30.0
"""Well within what feeds keep, so that whoever starts from a snapshot misses nothing."""


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
            counted = await self.follow()
            if counted < PAGE_EVENTS:
                await asyncio.sleep(LEAST_BETWEEN_S)
            if not counted:
                await self._wait()
            if time.monotonic() - written_at >= WRITE_EVERY_S:
                written_at = time.monotonic()
                await self.write()

    async def follow(self) -> int:
        """Counts what comes next in the feed, and returns how many events that were."""
        await self.begin()
        counted = 0
        if self._position:
            with self._complaining():
                page = await self._next_page()
                self.popularity.count(page.events)
                counted, self._position = len(page.events), page.position
        if self.popularity.is_full:
            self.popularity.trim(self._category_of)
        return counted

    async def _next_page(self) -> FeedPage:
        try:
            return await self._feed.since(self._position, limit=PAGE_EVENTS)
        except ValueError:
            logger.warning("sessions are in another kind of store now: counting goes on from here")
            return FeedPage([], await self._feed.newest())

    async def write(self) -> None:
        """Writes a snapshot, if this is the process that does."""
        self.popularity.trim(self._category_of)
        if self._file is None or not self._position:
            return
        snapshot = Snapshot.of(self.popularity, self._position)
        with self._complaining():
            await asyncio.to_thread(self._file.write, snapshot)

    async def close(self) -> None:
        """Counts what is left, and writes a last snapshot."""
        while await self.follow() >= PAGE_EVENTS:
            pass
        await self.write()
        if self._file is not None:
            self._file.close()

    async def _wait(self) -> None:
        """Returns when something was recorded here, or may have been elsewhere."""
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
