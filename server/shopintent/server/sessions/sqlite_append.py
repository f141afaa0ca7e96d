"""Writes groups of appends into the file of the sessions: all of a group or nothing."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shopintent.artifacts.event_log import IMPRESSION
from shopintent.server.errors import Overloaded
from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions import IDEMPOTENT_S, Appended, TrackedEvent
from shopintent.server.sessions.limits import Limits
from shopintent.server.sessions.positions import Position
from shopintent.server.sessions.sqlite_forget import (
    FORGOTTEN_AT_ONCE,
    forget,
    longest_unheard_of,
)
from shopintent.server.sessions.sqlite_join import join
from shopintent.server.sessions.sqlite_lookup import Found, Known, look_up, repeats
from shopintent.server.sessions.sqlite_rows import ROWS, Row, execute_for
from shopintent.server.sessions.sqlite_tombstones import deletion_times

TRIM_EVERY = 32
"""Events of a visitor between looks for those to drop."""
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


@dataclass(frozen=True, eq=False)
class Append:
    """What is to be added of a visitor."""

    visitor: str
    events: Sequence[TrackedEvent]
    alias: str = ""

    def __len__(self) -> int:
        return max(len(self.events), 1)


@dataclass(frozen=True, eq=False)
class _Sent:
    """An event of a group."""

    number: int
    """Among all of the group."""
    job: Append
    tracked: TrackedEvent


@dataclass(eq=False)
class _Rows:
    """What a group adds to each table."""

    visitors: dict[int, Row] = field(default_factory=dict)
    names: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    impressions: list[Row] = field(default_factory=list)
    records: list[Row] = field(default_factory=list)
    to_trim: set[int] = field(default_factory=set)


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
        sent = list(_numbered(group))
        found = self._forget_idle(look_up(self._connection, keys), now)
        if self._pseudonyms is not None and found.waiting >= MAX_UNLOGGED:
            raise Overloaded()
        refused = self._refused(sent, keys, now) if found.has_tombstones else set()
        if self._join(group, found, _without_any(sent, refused), now):
            found = look_up(self._connection, keys)
        new = self._new(sent, found, refused)
        rows, known = self._rows(sent, found, new, refused, now)
        self._add(rows, now)
        self._note(found, rows, len(sent))
        self._make_room(found, len(rows.names))
        return [self._answer(job, numbers, new, known) for job, numbers in _by_job(group)]

    def _forget_idle(self, found: Found, now: float) -> Found:
        idle_before = now - self._limits.idle_s
        idle = {each.visitor_id for each in found.known.values() if each.last_seen < idle_before}
        if not idle:
            return found
        forget(self._connection, idle)
        return found.without(idle)

    def _refused(self, sent: Sequence[_Sent], keys: Sequence[str], now: float) -> set[int]:
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
        any_joins = False
        for job in group:
            if job.alias and job.alias != job.visitor and job not in refused:
                visitor, alias = found.known.get(job.visitor), found.known.get(job.alias)
                if any_joins or not visitor or not alias or visitor.visitor_id != alias.visitor_id:
                    any_joins = True
                    join(
                        self._connection,
                        job.visitor,
                        job.alias,
                        pseudonyms=self._pseudonyms,
                        now=now,
                    )
        return any_joins

    def _new(self, sent: Sequence[_Sent], found: Found, refused: Collection[int]) -> list[bool]:
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

    def _rows(
        self,
        sent: Sequence[_Sent],
        found: Found,
        new: Sequence[bool],
        refused: Collection[int],
        now: float,
    ) -> tuple[_Rows, Mapping[str, Known]]:
        """Returns what the group adds, and by each key whom it means and up to which version."""
        rows = _Rows()
        visitors = {each.visitor_id: each for each in found.known.values()}
        whose = {key: each.visitor_id for key, each in found.known.items()}
        shoppers: dict[str, str] = {}
        for each in sent:
            if each.number in refused:
                continue
            key = each.job.visitor
            if key not in whose:
                whose[key] = found.newest_visitor + len(rows.names) + 1
                visitors[whose[key]] = Known(whose[key], 0, now, 0, key)
                rows.names.append((key, whose[key]))
            visitor = replace(
                visitors[whose[key]],
                version=found.version + 1 + each.number,
                untrimmed=visitors[whose[key]].untrimmed + 1,
            )
            if visitor.untrimmed >= TRIM_EVERY:
                visitor = replace(visitor, untrimmed=0)
                rows.to_trim.add(visitor.visitor_id)
            visitors[visitor.visitor_id] = visitor
            rows.visitors[visitor.visitor_id] = (
                visitor.visitor_id,
                visitor.version,
                now,
                visitor.untrimmed,
            )
            if new[each.number]:
                if visitor.key not in shoppers:
                    shoppers[visitor.key] = self._pseudonym(visitor.key)
                _add_rows(rows, each.tracked, visitor, now, shoppers[visitor.key])
        return rows, {key: visitors[visitor_id] for key, visitor_id in whose.items()}

    def _pseudonym(self, key: str) -> str:
        return "" if self._pseudonyms is None else self._pseudonyms.pseudonym(key)

    def _add(self, rows: _Rows, now: float) -> None:
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

    def _note(self, found: Found, rows: _Rows, sent: int) -> None:
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


def _numbered(group: Sequence[Append]) -> Iterator[_Sent]:
    number = 0
    for job in group:
        for tracked in job.events:
            yield _Sent(number, job, tracked)
            number += 1


def _by_job(group: Sequence[Append]) -> Iterator[tuple[Append, range]]:
    start = 0
    for job in group:
        yield job, range(start, start + len(job.events))
        start += len(job.events)


def _without_any(sent: Iterable[_Sent], refused: Collection[int]) -> set[Append]:
    """Returns the appends of which every event is refused."""
    if not refused:
        return set()
    some = {each.job for each in sent if each.number not in refused}
    return {each.job for each in sent} - some


def _add_rows(rows: _Rows, tracked: TrackedEvent, visitor: Known, now: float, shopper: str) -> None:
    """Adds the rows of a new event; `shopper` is empty where there is no event log."""
    event = tracked.event
    visitor_id, sequence = visitor.visitor_id, visitor.version
    if event.event_type != IMPRESSION:
        rows.events.append(
            (
                visitor_id,
                event.event_time,
                sequence,
                tracked.event_id,
                now,
                event.event_type,
                event.product_id,
                event.category,
                event.search_query,
                event.quantity,
                tracked.attribution_token,
            )
        )
    elif tracked.event_id:
        rows.impressions.append((visitor_id, sequence, tracked.event_id, now))
    if shopper:
        rows.records.append(
            (
                sequence,
                now,
                shopper,
                event.event_type,
                event.event_time,
                tracked.event_id,
                event.product_id,
                event.category,
                event.search_query,
                event.quantity,
                tracked.attribution_token,
                _listed(tracked.experiment_ids),
                _listed(tracked.shown_product_ids),
            )
        )
    elif event.product_id:
        nothing = ("", "", 0, "", "", "")
        counted = (event.event_type, event.event_time, "", event.product_id)
        rows.records.append((sequence, now, "", *counted, *nothing))


def _listed(names: Sequence[str]) -> str:
    return json.dumps(names, ensure_ascii=False) if names else ""
