"""Sessions in a SQLite file, shared by the server processes of one machine."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from shopintent.artifacts.event_log import LogRecord
from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions import (
    Appended,
    BehaviorBehind,
    Deleted,
    FeedPage,
    History,
    TrackedEvent,
)
from shopintent.server.sessions import sqlite_deletion as deletion
from shopintent.server.sessions.group_commit import GroupWriter
from shopintent.server.sessions.limits import DAY_S, Limits
from shopintent.server.sessions.positions import Position
from shopintent.server.sessions.sqlite_append import Appender
from shopintent.server.sessions.sqlite_group import Append
from shopintent.server.sessions.sqlite_reading import Held, Histories
from shopintent.server.sessions.sqlite_records import SqliteRecords
from shopintent.server.sessions.sqlite_schema import MIGRATIONS, SCHEMA, VERSION
from shopintent.server.sessions.sqlite_tidy import tidy
from shopintent.server.state import Database

MAX_WAITING = 4_000
GROUP_EVENTS = 1_000
MAY_BE_LOST = 100_000
"""Numbers that may have been given to events that a loss of power took."""
READING_TIMEOUT_S = 0.25
"""Reads wait for nobody, but for a process that died to be cleaned up after."""


class SqliteSessions:
    """A SessionStore, EventFeed and RecordSource for the server processes of one machine.

    Make it with `open`. What is acknowledged survives the end of every process, and with
    `survives_power_loss` that of the machine. Of each visitor the newest `max_events` events by
    time are read; for their ids the events of a day are held, up to `IDS_PER_EVENT` times as many.
    The visitor heard of least recently is forgotten first, once there are more than `max_visitors`,
    or after `idle_s` seconds without an event. With `pseudonyms` every event is also a record that
    waits for the event log. `clock` tells unix seconds.
    """

    def __init__(
        self,
        database: Database,
        limits: Limits,
        *,
        pseudonyms: Pseudonyms | None,
        cached_histories: int,
        survives_power_loss: bool,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._limits = limits
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._epoch, self._secret = _identity(database)
        self._writing = database.connect(survives_power_loss=survives_power_loss)
        if not survives_power_loss:
            _skip_numbers(database)
        self._reading = database.connect()
        self._reading.execute("PRAGMA busy_timeout = 0")
        self._histories = Histories(self._reading, limits, clock, cached=cached_histories)
        self._records = SqliteRecords(
            database, self._epoch, survives_power_loss=survives_power_loss
        )
        self._appender = Appender(
            self._writing, self._epoch, self._secret, limits, pseudonyms, clock
        )
        self._writer: GroupWriter[Append, Appended] = GroupWriter(
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
        pseudonyms: Pseudonyms | None = None,
        cached_histories: int = 20_000,
        survives_power_loss: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> SqliteSessions:
        """Opens the file, made first when needed. Raises StateUnavailable.

        Call it with the event loop running that will ask.
        """
        limits = Limits(max_visitors, max_events, idle_s)
        without = "every visitor is then new"
        return cls(
            Database(path, "sessions", SCHEMA, VERSION, without, MIGRATIONS),
            limits,
            pseudonyms=pseudonyms,
            cached_histories=cached_histories,
            survives_power_loss=survives_power_loss,
            clock=clock,
        )

    async def append(
        self, visitor: str, events: Sequence[TrackedEvent], *, timeout_s: float, alias: str = ""
    ) -> Appended:
        """Adds events, all or none.

        Raises Overloaded when nothing was tried, because too much waits to be written, here or in
        the event log, and StateUnavailable when it is not known whether they were added.
        """
        if not events and not alias:
            held = await self._held(visitor)
            return Appended([], str(Position(self._epoch, held.version)))
        try:
            job = Append(visitor, events, alias)
            return await self._writer.submit(job, timeout_s=timeout_s)
        except TimeoutError as error:
            raise self._database.unavailable("no answer in time") from error

    async def recent(self, visitor: str, *, position: str = "", timeout_s: float = 1.0) -> History:
        """Returns what the visitor did; EMPTY_HISTORY when unknown. Raises StateUnavailable.

        It reads on the event loop, which costs less than asking another thread would, and waits for
        no position: what the file does not hold now it lost.
        """
        awaited = Position.parse(position) if position else Position(self._epoch, 0)
        held = await self._held(visitor)
        if awaited.epoch != self._epoch or awaited.number > held.version:
            raise BehaviorBehind(held.history)
        return held.history

    async def delete(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Forgets a visitor and everybody joined with them, down to the bytes of the file.

        Raises StateUnavailable when not all was done in time; call it again then.
        """
        return await asyncio.to_thread(
            deletion.delete,
            self._database,
            visitor,
            pseudonyms=self._pseudonyms,
            secret=self._secret,
            now=self._clock(),
            timeout_s=timeout_s,
        )

    async def find(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Returns what is held of a visitor: rows, and occurrences among the bytes of the files.

        Raises StateUnavailable.
        """
        return await asyncio.to_thread(
            deletion.find,
            self._database,
            visitor,
            pseudonyms=self._pseudonyms,
            timeout_s=timeout_s,
        )

    async def newest(self) -> str:
        """Returns the position behind everything recorded so far. Raises StateUnavailable."""
        return await self._records.newest()

    async def since(self, position: str, *, limit: int = 1_000) -> FeedPage:
        """Returns what was recorded since a position, oldest first. Raises StateUnavailable."""
        return await self._records.since(position, limit=limit)

    async def waiting(self, *, limit: int = 10_000) -> list[LogRecord]:
        """Returns the oldest records that are not in the log. Raises StateUnavailable."""
        return await self._records.waiting(limit=limit)

    async def logged(self, records: Sequence[LogRecord]) -> None:
        """Says that records, and all before them, are in the log. Raises StateUnavailable."""
        await self._records.logged(records)

    async def close(self) -> None:
        """Writes what waits, and closes the file."""
        await self._writer.close()
        await self._records.close()
        self._reading.close()
        self._writing.close()

    async def _held(self, visitor: str) -> Held:
        ends_at = time.monotonic() + READING_TIMEOUT_S
        while True:
            with self._database.answer():
                try:
                    return self._histories.of(visitor)
                except sqlite3.OperationalError as error:
                    busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    if not busy or time.monotonic() > ends_at:
                        raise
            await asyncio.sleep(0.001)

    def _write(self, group: Sequence[Append]) -> list[Appended]:
        with self._database.answer(), self._database.transaction(self._writing):
            return self._appender.write(group)

    def _tidy(self) -> bool:
        with self._database.answer():
            return tidy(
                self._database,
                self._writing,
                self._limits,
                self._clock(),
                keeps_unlogged=self._pseudonyms is not None,
            )


def _identity(database: Database) -> tuple[str, bytes]:
    """Returns the epoch of the file, and the secret of its tombstones."""
    with database.answer(), closing(database.connect()) as connection:
        epoch, secret = connection.execute("SELECT epoch, secret FROM store").fetchone()
    return epoch, secret


def _skip_numbers(database: Database) -> None:
    """Gives no number again that was lost: a position or the event log may still know it."""
    # This must not be lost itself.
    with (
        database.answer(),
        closing(database.connect(survives_power_loss=True)) as connection,
        database.transaction(connection),
    ):
        connection.execute("UPDATE store SET version = version + ?", (MAY_BE_LOST,))
