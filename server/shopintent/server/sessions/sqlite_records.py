"""The records of the file of the sessions: what waits for the event log, and the feed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from shopintent.artifacts.event_log import LogRecord
from shopintent.server.sessions import Counted, FeedPage
from shopintent.server.sessions.limits import FEED_S
from shopintent.server.sessions.positions import Position
from shopintent.server.sessions.sqlite_rows import read_json
from shopintent.server.state import Database

R = TypeVar("R")

READ_AT_ONCE = 500
"""Records of one statement: Python reads what it answers in one go, and calls wait meanwhile."""
DROPPED_AT_ONCE = 20_000

NEWEST = "SELECT version FROM store"
SINCE = """
SELECT json_array(
    (SELECT version FROM store),
    (SELECT json_group_array(json_array(sequence, event_type, event_time, product_id, weight))
    FROM (SELECT * FROM record WHERE sequence > ? AND product_id <> '' ORDER BY sequence LIMIT ?)))
"""
WAITING_FIELDS = (
    *("sequence", "received_at", "shopper", "event_type", "event_time", "event_id", "product_id"),
    *("category", "search_query", "quantity", "attribution_token", "alias"),
    *("experiment_ids", "shown_product_ids"),
)
WAITING = f"""
SELECT json_group_array(json_array({", ".join(WAITING_FIELDS[:-2])},
    json(iif(experiment_ids = '', '[]', experiment_ids)),
    json(iif(shown_product_ids = '', '[]', shown_product_ids))))
FROM (SELECT * FROM record WHERE sequence > max(?, (SELECT logged FROM store)) AND shopper <> ''
    ORDER BY sequence LIMIT ?)
"""
# Records of the deleted wait no more, but are counted until nothing waits.
LOGGED = """
UPDATE store SET logged = max(logged, :newest), waiting = iif(
    EXISTS (SELECT 1 FROM record WHERE sequence > max(logged, :newest) AND shopper <> ''),
    max(waiting - :n_records, 0), 0
)
"""
OLDEST = "SELECT sequence, received_at FROM record ORDER BY sequence LIMIT 1"
# Those taken in the last minute stay for the feed; those of no shopper are in no log.
DROP = """
DELETE FROM record WHERE sequence < :end AND received_at < :before
AND (:unlogged_too OR sequence <= (SELECT logged FROM store))
"""


class SqliteRecords:
    """A RecordSource and EventFeed over a connection of its own, with which it is closed.

    Every method raises StateUnavailable.
    """

    def __init__(self, database: Database, epoch: str, *, survives_power_loss: bool) -> None:
        self._database = database
        self._epoch = epoch
        self._connection = database.connect(survives_power_loss=survives_power_loss)
        self._turn = asyncio.Lock()

    async def newest(self) -> str:
        """Returns the position behind everything recorded so far."""
        return str(Position(self._epoch, await self._ask(self._version)))

    async def since(self, position: str, *, limit: int = 1_000) -> FeedPage:
        """Returns the events about products that were recorded since a position, oldest first.

        A position of a file that was lost is before everything. Raises ValueError for none.
        """
        seen = Position.parse(position)
        first = seen.number if seen.epoch == self._epoch else 0
        events, last = await self._ask(partial(self._events_since, first, limit))
        return FeedPage(events, str(Position(self._epoch, last)))

    async def waiting(self, *, limit: int = 10_000) -> list[LogRecord]:
        """Returns the oldest records that are not in the log, as far as `logged` was told."""
        records: list[LogRecord] = []
        after = 0
        while len(records) < limit:
            asked = min(READ_AT_ONCE, limit - len(records))
            read = await self._ask(partial(self._read, after, asked))
            records += read
            if len(read) < asked:
                break
            after = read[-1].sequence
        return records

    async def logged(self, records: Sequence[LogRecord]) -> None:
        """Says that records, and all before them, are in the log."""
        if records:
            newest = max(each.sequence for each in records)
            await self._ask(partial(self._have_logged, newest, len(records)))

    async def close(self) -> None:
        """Waits for what is being asked, and closes the connection."""
        async with self._turn:
            self._connection.close()

    async def _ask(self, question: Callable[[], R]) -> R:
        def answer() -> R:
            with self._database.answer():
                return question()

        async with self._turn:
            return await asyncio.to_thread(answer)

    def _version(self) -> int:
        [version] = self._connection.execute(NEWEST).fetchone()
        return int(version)

    def _events_since(self, first: int, limit: int) -> tuple[list[Counted], int]:
        """Returns events, and up to where there are no others."""
        [version, rows] = read_json(self._connection, SINCE, (first, limit))
        events = [Counted(*row[1:]) for row in rows]
        return events, rows[-1][0] if len(rows) == limit else version

    def _read(self, after: int, limit: int) -> list[LogRecord]:
        return [
            LogRecord.from_fields(
                {"source": self._epoch, **dict(zip(WAITING_FIELDS, row, strict=True))}
            )
            for row in read_json(self._connection, WAITING, (after, limit))
        ]

    def _have_logged(self, newest: int, n_records: int) -> None:
        with self._database.transaction(self._connection):
            self._connection.execute(LOGGED, {"newest": newest, "n_records": n_records})


def first_to_drop(connection: sqlite3.Connection, now: float) -> int | None:
    """Returns the first record if it is old enough for `drop`."""
    oldest = connection.execute(OLDEST).fetchone()
    return None if oldest is None or oldest[1] >= now - FEED_S else int(oldest[0])


def drop(connection: sqlite3.Connection, first: int, now: float, *, unlogged_too: bool) -> bool:
    """Drops old records that are needed no more; returns whether there may be more of them."""
    limits = {
        "end": first + DROPPED_AT_ONCE,
        "before": now - FEED_S,
        "unlogged_too": unlogged_too,
    }
    return connection.execute(DROP, limits).rowcount == DROPPED_AT_ONCE
