"""Writes groups of appends into the file of the sessions: all of a group or nothing."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from shopintent.server.errors import Overloaded
from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions import IDEMPOTENT_S, Appended
from shopintent.server.sessions.limits import Limits
from shopintent.server.sessions.positions import Position
from shopintent.server.sessions.sqlite_forget import (
    FORGOTTEN_AT_ONCE,
    forget,
    longest_unheard_of,
)
from shopintent.server.sessions.sqlite_group import Append, GroupRows, Rows, Sent, by_job, numbered
from shopintent.server.sessions.sqlite_join import join
from shopintent.server.sessions.sqlite_lookup import Found, Known, look_up, repeats
from shopintent.server.sessions.sqlite_rows import ROWS, execute_for
from shopintent.server.sessions.sqlite_tombstones import deletion_times

MAX_UNLOGGED = 5_000_000
"""Records that wait for the event log, about 1 GB of them, before appends are refused."""

HEAR_OF = f"""
INSERT INTO visitor SELECT * FROM {ROWS} WHERE column1 IS NOT NULL
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version, last_seen = excluded.last_seen, untrimmed = excluded.untrimmed
"""
NAME = f"INSERT INTO name SELECT *, NULL FROM {ROWS} WHERE column1 IS NOT NULL"
RECORD_EVENTS = f"INSERT INTO event SELECT * FROM {ROWS} WHERE column1 IS NOT NULL"
KNOW_IMPRESSIONS = f"INSERT INTO impression SELECT * FROM {ROWS} WHERE column1 IS NOT NULL"
LOG = f"""
INSERT INTO record SELECT column1, 1, column2, column3, column4, column5, column6, column7, column8,
    column9, column10, column11, column12, column13, '' FROM {ROWS} WHERE column1 IS NOT NULL
"""
TRIM = """
DELETE FROM event WHERE visitor = :visitor AND received_at < :received_before
AND (event_time, sequence) < (
    SELECT event_time, sequence FROM event WHERE visitor = :visitor
    ORDER BY event_time DESC, sequence DESC LIMIT 1 OFFSET :kept - 1
)
"""
TRIM_IMPRESSIONS = """
DELETE FROM impression WHERE visitor = :visitor AND (received_at < :received_before OR sequence < (
    SELECT sequence FROM impression WHERE visitor = :visitor
    ORDER BY sequence DESC LIMIT 1 OFFSET :kept - 1
))
"""


class Appender:
    """Writes groups through a connection, in one thread. `clock` tells unix seconds."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        epoch: str,
        secret: bytes,
        limits: Limits,
        pseudonyms: Pseudonyms | None,
        clock: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._epoch = epoch
        self._secret = secret
        self._limits = limits
        self._pseudonyms = pseudonyms
        self._clock = clock

    def write(self, group: Sequence[Append]) -> list[Appended]:
        """Adds a group within the transaction that there is. Raises Overloaded."""
        now = self._clock()
        keys = list({key: None for job in group for key in (job.visitor, job.alias) if key})
        sent = list(numbered(group))
        found = self._forget_idle(look_up(self._connection, keys), now)
        if self._pseudonyms is not None and found.waiting >= MAX_UNLOGGED:
            raise Overloaded()
        refused = self._refused(sent, keys, now) if found.has_tombstones else set()
        if self._join(group, found, _without_any(sent, refused), now):
            found = look_up(self._connection, keys)
        new = self._new(sent, found, refused)
        added = GroupRows(found, self._pseudonyms, now)
        added.add(sent, new, refused)
        self._add(added.rows, now)
        self._note(found, added.rows, len(sent))
        self._make_room(found, len(added.rows.names))
        known = added.known
        return [self._answer(job, numbers, new, known) for job, numbers in by_job(group)]

    def _forget_idle(self, found: Found, now: float) -> Found:
        idle_before = now - self._limits.idle_s
        idle = {each.visitor_id for each in found.known.values() if each.last_seen < idle_before}
        if not idle:
            return found
        forget(self._connection, idle)
        return found.without(idle)

    def _refused(self, sent: Sequence[Sent], keys: Sequence[str], now: float) -> set[int]:
        """Returns which events are from before the deletion of who sent them."""
        deleted = deletion_times(self._connection, keys, self._secret, since=now - IDEMPOTENT_S)
        return {
            each.number
            for each in sent
            for key in (each.job.visitor, each.job.alias)
            if each.tracked.event.event_time <= deleted.get(key, -math.inf)
        }

    def _join(
        self, group: Sequence[Append], found: Found, refused: Collection[Append], now: float
    ) -> bool:
        """Makes the joins that the group asks for; returns whether there were any.

        They come before all events of the group, which nobody can tell: all were sent at once.
        """
        changed: set[int] = set()
        any_joins = False
        for job in group:
            if job.alias and job.alias != job.visitor and job not in refused:
                known = [found.known.get(key) for key in (job.visitor, job.alias)]
                ids = {each.visitor_id for each in known if each}
                # One who changed is not as found any more: `join` looks itself.
                if len(ids) > 1 or None in known or ids & changed:
                    join(
                        *(self._connection, job.visitor, job.alias),
                        pseudonyms=self._pseudonyms,
                        now=now,
                    )
                    changed |= ids
                    any_joins = True
        return any_joins

    def _new(self, sent: Sequence[Sent], found: Found, refused: Collection[int]) -> list[bool]:
        """Returns of each event whether it is new."""
        known = found.known
        asked = [
            (each.number, known[each.job.visitor].visitor_id, each.tracked.event_id)
            for each in sent
            if each.tracked.event_id and each.job.visitor in known
        ]
        old = repeats(self._connection, asked) if asked else set()
        added: set[tuple[int | str, str]] = set()
        new = []
        for each in sent:
            event_id, visitor = each.tracked.event_id, each.job.visitor
            whose = known[visitor].visitor_id if visitor in known else visitor
            is_new = each.number not in old and each.number not in refused
            is_new = is_new and not (event_id and (whose, event_id) in added)
            if is_new and event_id:
                added.add((whose, event_id))
            new.append(is_new)
        return new

    def _add(self, rows: Rows, now: float) -> None:
        connection = self._connection
        execute_for(connection, HEAR_OF, list(rows.visitors.values()))
        execute_for(connection, NAME, rows.names)
        execute_for(connection, RECORD_EVENTS, rows.events)
        execute_for(connection, KNOW_IMPRESSIONS, rows.impressions)
        execute_for(connection, LOG, rows.records)
        for visitor_id in rows.to_trim:
            self._trim(visitor_id, now - IDEMPOTENT_S)

    def _trim(self, visitor_id: int, day_ago: float) -> None:
        """Drops what is not read, nor needed to know an id again."""
        read, known = self._limits.max_events, self._limits.max_ids
        for statement, kept, received_before in (
            (TRIM, read, day_ago),
            (TRIM, known, math.inf),
            (TRIM_IMPRESSIONS, known, day_ago),
        ):
            limits = {"visitor": visitor_id, "kept": kept, "received_before": received_before}
            self._connection.execute(statement, limits)

    def _note(self, found: Found, rows: Rows, sent: int) -> None:
        """Keeps count."""
        added, waiting = len(rows.names), 0 if self._pseudonyms is None else len(rows.records)
        self._connection.execute(
            "UPDATE store SET version = ?, newest_visitor = ?, visitors = ?, waiting = ?",
            (
                found.version + sent,
                found.newest_visitor + added,
                found.visitors + added,
                found.waiting + waiting,
            ),
        )

    def _make_room(self, found: Found, added: int) -> None:
        excess = found.visitors + added - self._limits.max_visitors
        if excess > 0:
            at_most = min(excess, added + FORGOTTEN_AT_ONCE)
            forget(self._connection, longest_unheard_of(self._connection, at_most))

    def _answer(
        self, job: Append, numbers: range, new: Sequence[bool], known: Mapping[str, Known]
    ) -> Appended:
        visitor = known.get(job.visitor)
        position = Position(self._epoch, 0 if visitor is None else visitor.version)
        return Appended([new[number] for number in numbers], str(position))


def _without_any(sent: Iterable[Sent], refused: Collection[int]) -> set[Append]:
    """Returns the appends of which every event is refused."""
    if not refused:
        return set()
    some = {each.job for each in sent if each.number not in refused}
    return {each.job for each in sent} - some
