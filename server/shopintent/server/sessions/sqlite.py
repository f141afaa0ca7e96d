"""Sessions in a SQLite file, shared by the server processes of one machine.

Every read asks for the visitor's version, so what one process acknowledged all others see at once;
the events are read again only when it changed.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from shopintent.behavior import Event
from shopintent.server.cache import LruCache
from shopintent.server.sessions import (
    EMPTY_HISTORY,
    IDEMPOTENT_S,
    Appended,
    Deleted,
    History,
    TrackedEvent,
)
from shopintent.server.sessions.group_commit import GroupWriter
from shopintent.server.state import Database

DAY_S = 24 * 60 * 60
IDS_PER_EVENT = 20
"""Events held of a visitor to know their ids again, for each event that is read."""
TRIM_EVERY = 32
"""Events of a visitor between looks for those to drop."""
FORGOTTEN_AT_ONCE = 20
"""Visitors forgotten in one transaction, beyond those whom new ones replace."""
MAX_WAITING = 4_000
GROUP_EVENTS = 1_000
READING_TIMEOUT_S = 0.25
"""Reads wait for nobody, but for a process that died to be cleaned up after."""

SCHEMA = """
CREATE TABLE visitor (
    -- Never used again, so that an id and a version never name two histories.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    -- Above that of every visitor heard of earlier.
    version INTEGER NOT NULL,
    last_seen REAL NOT NULL,
    untrimmed INTEGER NOT NULL
);
CREATE INDEX visitor_by_version ON visitor (version);
CREATE TABLE event (
    visitor INTEGER NOT NULL,
    event_time INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    received_at REAL NOT NULL,
    event_type TEXT NOT NULL,
    product_id TEXT NOT NULL,
    category TEXT NOT NULL,
    search_query TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    attribution_token TEXT NOT NULL,
    PRIMARY KEY (visitor, event_time, sequence)
) WITHOUT ROWID;
CREATE UNIQUE INDEX event_by_id ON event (visitor, event_id) WHERE event_id <> '';
CREATE TABLE totals (visitors INTEGER NOT NULL);
INSERT INTO totals VALUES (0)
"""

BATCH = """
CREATE TEMP TABLE batch (
    position INTEGER PRIMARY KEY,
    visitor TEXT, event_time INTEGER, event_id TEXT, event_type TEXT, product_id TEXT,
    category TEXT, search_query TEXT, quantity INTEGER, attribution_token TEXT
)
"""
ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

# The statements of a group are few however many events it has: Python's global lock is let go of
# around each, and a busy event loop takes milliseconds to give it back.
FIND = """
SELECT
    (SELECT coalesce(max(version), 0) FROM visitor),
    (SELECT visitors FROM totals),
    (SELECT count(*) FROM visitor WHERE key IN (SELECT visitor FROM batch)),
    (SELECT group_concat(id) FROM visitor
        WHERE key IN (SELECT visitor FROM batch) AND last_seen < :idle_before),
    (SELECT group_concat(batch.position) FROM batch
        JOIN visitor ON visitor.key = batch.visitor AND visitor.last_seen >= :idle_before
        JOIN event ON event.visitor = visitor.id
            AND event.event_id = batch.event_id AND event.event_id <> '')
"""
HEAR_OF = """
INSERT INTO visitor (key, version, last_seen, untrimmed)
SELECT visitor, :version + max(position), :now, count(*) FROM batch WHERE true GROUP BY visitor
ON CONFLICT (key) DO UPDATE SET
    version = excluded.version,
    last_seen = excluded.last_seen,
    untrimmed = untrimmed + excluded.untrimmed
"""
RECORD = """
INSERT INTO event
SELECT visitor.id, event_time, :version + position, event_id, :now,
    event_type, product_id, category, search_query, quantity, attribution_token
FROM batch JOIN visitor ON visitor.key = batch.visitor
WHERE true ORDER BY position
ON CONFLICT (visitor, event_id) WHERE event_id <> '' DO NOTHING
"""
UNTRIMMED = """
SELECT id FROM visitor WHERE key IN (SELECT visitor FROM batch) AND untrimmed >= ?
"""
TRIM = """
DELETE FROM event WHERE visitor = :visitor AND received_at < :received_before
AND (event_time, sequence) < (
    SELECT event_time, sequence FROM event WHERE visitor = :visitor
    ORDER BY event_time DESC, sequence DESC LIMIT 1 OFFSET :kept - 1
)
"""
READ = """
SELECT event_type, event_time, product_id, category, search_query, quantity FROM event
WHERE visitor = ? AND sequence > ? ORDER BY event_time DESC, sequence DESC LIMIT ?
"""


@dataclass(frozen=True, eq=False)
class _Append:
    visitor: str
    events: Sequence[TrackedEvent]

    def __len__(self) -> int:
        return len(self.events)


@dataclass(frozen=True, eq=False)
class _Held:
    """The history of a visitor as it was at a version."""

    visitor_id: int
    version: int
    history: History


class SqliteSessions:
    """A SessionStore for the server processes of one machine; make it with `open`.

    What is acknowledged survives the end of every process, and with `survives_power_loss` that of
    the machine. Of each visitor the newest `max_events` events by time are read; for their ids the
    events of a day are held, up to `IDS_PER_EVENT` times as many. The visitor heard of least
    recently is forgotten first, once there are more than `max_visitors`, or after `idle_s` seconds
    without an event. `clock` tells unix seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_visitors: int,
        max_events: int,
        idle_s: float,
        cached_histories: int,
        survives_power_loss: bool,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._max_visitors = max_visitors
        self._max_events = max_events
        self._idle_s = idle_s
        self._clock = clock
        self._held: LruCache[str, _Held] = LruCache(max_entries=cached_histories)
        self._writing = database.connect(survives_power_loss=survives_power_loss)
        self._writing.execute(BATCH)
        self._reading = database.connect()
        self._reading.execute("PRAGMA busy_timeout = 0")
        self._writer: GroupWriter[_Append, list[bool]] = GroupWriter(
            self._write,
            self._tidy,
            name="sessions",
            max_waiting=MAX_WAITING,
            group_size=GROUP_EVENTS,
        )

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_visitors: int = 100_000,
        max_events: int = 200,
        idle_s: float = 30 * DAY_S,
        cached_histories: int = 20_000,
        survives_power_loss: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> SqliteSessions:
        """Opens the file, made first when needed. Raises StateUnavailable.

        Call it with the event loop running that will ask.
        """
        if max_visitors < 1 or max_events < 1 or idle_s <= 0:
            raise ValueError("max_visitors, max_events and idle_s must be above 0")
        database = Database(path, "sessions", SCHEMA, 1, "every visitor is then new")
        return cls(
            database,
            max_visitors=max_visitors,
            max_events=max_events,
            idle_s=idle_s,
            cached_histories=cached_histories,
            survives_power_loss=survives_power_loss,
            clock=clock,
        )

    async def append(
        self, visitor: str, events: Sequence[TrackedEvent], *, timeout_s: float, alias: str = ""
    ) -> Appended:
        """Adds events, all or none.

        Raises Overloaded when nothing was tried, and StateUnavailable when it is not known whether
        they were added.
        """
        if not events:
            return Appended([], "")
        try:
            new = await self._writer.submit(_Append(visitor, events), timeout_s=timeout_s)
        except TimeoutError as error:
            raise self._database.unavailable("no answer in time") from error
        return Appended(new, "")

    async def recent(self, visitor: str, *, position: str = "", timeout_s: float = 1.0) -> History:
        """Returns what the visitor did; EMPTY_HISTORY when unknown. Raises StateUnavailable.

        It reads on the event loop, which costs less than asking another thread would.
        """
        ends_at = time.monotonic() + READING_TIMEOUT_S
        while True:
            with self._database.answer():
                try:
                    return self._recent(visitor)
                except sqlite3.OperationalError as error:
                    busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    if not busy or time.monotonic() > ends_at:
                        raise
            await asyncio.sleep(0.001)

    async def delete(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Forgets a visitor. Raises StateUnavailable."""
        return await asyncio.to_thread(self._delete, visitor)

    async def find(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Returns what is held of a visitor. Raises StateUnavailable."""
        return Deleted((visitor,), len((await self.recent(visitor)).events))

    async def close(self) -> None:
        """Writes what waits, and closes the file."""
        await self._writer.close()
        self._reading.close()
        self._writing.close()

    def _delete(self, visitor: str) -> Deleted:
        with self._database.answer(), self._database.transaction(self._writing):
            row = self._writing.execute("SELECT id FROM visitor WHERE key = ?", (visitor,))
            found = [visitor_id for [visitor_id] in row.fetchall()]
            self._forget(found)
        return Deleted((visitor,), len(found))

    def _recent(self, visitor: str) -> History:
        row = self._reading.execute(
            "SELECT id, version, last_seen FROM visitor WHERE key = ?", (visitor,)
        ).fetchone()
        if row is None or self._clock() - row[2] > self._idle_s:
            self._held.discard(visitor)
            return EMPTY_HISTORY
        visitor_id, version, _ = row
        held = self._held.get(visitor)
        if held is None or held.visitor_id != visitor_id:
            held = _Held(visitor_id, -1, EMPTY_HISTORY)
        if held.version != version:
            held = _Held(visitor_id, version, self._history_since(held))
            self._held.put(visitor, held)
        return held.history

    def _history_since(self, held: _Held) -> History:
        """Returns what is held and the events added since; the same object when there are none."""
        added = self._reading.execute(READ, (held.visitor_id, held.version, self._max_events))
        # The sort is stable: of one time, what was held comes first.
        events = [*held.history.events, *(Event(*row) for row in reversed(added.fetchall()))]
        if len(events) == len(held.history.events):
            return held.history
        events.sort(key=attrgetter("event_time"))
        return History(tuple(events[-self._max_events :]))

    def _write(self, group: Sequence[_Append]) -> list[list[bool]]:
        """Adds the events of the group, all or none, and returns of each whether it was new."""
        with self._database.answer(), self._database.transaction(self._writing):
            self._fill_batch(group)
            now = self._clock()
            found = self._writing.execute(FIND, {"idle_before": now - self._idle_s}).fetchone()
            latest, total, known, idle, repeats = found
            come_back = _integers(idle)
            self._forget(come_back)
            self._record(latest + 1, now)
            new = len({each.visitor for each in group}) - known + len(come_back)
            self._count_visitors(new)
            excess = total - len(come_back) + new - self._max_visitors
            self._forget(self._longest_unheard_of(min(excess, new + FORGOTTEN_AT_ONCE)))
            self._writing.execute("DELETE FROM batch")
        return _which_are_new(group, set(_integers(repeats)))

    def _fill_batch(self, group: Sequence[_Append]) -> None:
        rows = [
            (
                each.visitor,
                tracked.event.event_time,
                tracked.event_id,
                tracked.event.event_type,
                tracked.event.product_id,
                tracked.event.category,
                tracked.event.search_query,
                tracked.event.quantity,
                tracked.attribution_token,
            )
            for each in group
            for tracked in each.events
        ]
        numbered = list(enumerate(rows))
        for start in range(0, len(rows), GROUP_EVENTS):
            part = numbered[start : start + GROUP_EVENTS]
            values = [value for position, row in part for value in (position, *row)]
            places = ", ".join([ROW] * len(part))
            self._writing.execute(f"INSERT INTO batch VALUES {places}", values)

    def _record(self, version: int, now: float) -> None:
        """Adds what is in the batch, and drops what its visitors have too much of."""
        self._writing.execute(HEAR_OF, {"version": version, "now": now})
        self._writing.execute(RECORD, {"version": version, "now": now})
        for [visitor_id] in self._writing.execute(UNTRIMMED, (TRIM_EVERY,)).fetchall():
            trims = {
                self._max_events: now - IDEMPOTENT_S,
                self._max_events * IDS_PER_EVENT: math.inf,
            }
            for kept, received_before in trims.items():
                self._writing.execute(
                    TRIM,
                    {"visitor": visitor_id, "kept": kept, "received_before": received_before},
                )
            self._writing.execute("UPDATE visitor SET untrimmed = 0 WHERE id = ?", (visitor_id,))

    def _longest_unheard_of(self, limit: int) -> list[int]:
        if limit <= 0:
            return []
        rows = self._writing.execute("SELECT id FROM visitor ORDER BY version LIMIT ?", (limit,))
        return [visitor_id for [visitor_id] in rows.fetchall()]

    def _forget(self, visitor_ids: Sequence[int]) -> None:
        for visitor_id in visitor_ids:
            self._writing.execute("DELETE FROM event WHERE visitor = ?", (visitor_id,))
            self._writing.execute("DELETE FROM visitor WHERE id = ?", (visitor_id,))
        self._count_visitors(-len(visitor_ids))

    def _count_visitors(self, more: int) -> None:
        if more:
            self._writing.execute("UPDATE totals SET visitors = visitors + ?", (more,))

    def _tidy(self) -> bool:
        """Forgets some who are idle or too many; returns whether there may be more."""
        with self._database.answer():
            unneeded = self._unneeded()
            if unneeded:
                with self._database.transaction(self._writing):
                    self._forget(self._unneeded())
        return len(unneeded) == FORGOTTEN_AT_ONCE

    def _unneeded(self) -> list[int]:
        """Returns the longest unheard of, as far as they are idle or too many."""
        [total] = self._writing.execute("SELECT visitors FROM totals").fetchone()
        rows = self._writing.execute(
            "SELECT id, last_seen FROM visitor ORDER BY version LIMIT ?", (FORGOTTEN_AT_ONCE,)
        ).fetchall()
        idle_before = self._clock() - self._idle_s
        excess = total - self._max_visitors
        return [
            visitor_id
            for number, (visitor_id, last_seen) in enumerate(rows)
            if number < excess or last_seen < idle_before
        ]


def _which_are_new(group: Sequence[_Append], repeats: set[int]) -> list[list[bool]]:
    """Returns of each event of the group whether it is new; `repeats` were known before it."""
    added: set[tuple[str, str]] = set()
    answers: list[list[bool]] = []
    position = 0
    for each in group:
        new = []
        for tracked in each.events:
            key = (each.visitor, tracked.event_id)
            new.append(position not in repeats and not (tracked.event_id and key in added))
            added.add(key)
            position += 1
        answers.append(new)
    return answers


def _integers(joined: str | int | None) -> list[int]:
    """Returns the numbers that group_concat joined."""
    return [] if joined is None else [int(each) for each in str(joined).split(",")]
