"""All that must be known of a file before a group of appends is written, in one statement."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from shopintent.server.sessions.sqlite_rows import ROWS, ROWS_AT_ONCE, read_json, with_rows

# Each part is looked up by key, whatever SQLite thinks of the order: CROSS JOIN keeps it.
LOOK_UP = f"""
WITH known AS MATERIALIZED (
    SELECT named.column1 AS number, visitor.*, CASE WHEN joined_at IS NOT NULL THEN (
        SELECT own.key FROM name AS own WHERE own.visitor = visitor.id AND own.joined_at IS NULL
    ) END AS own_key
    FROM {ROWS} AS named
    CROSS JOIN name ON name.key = named.column2
    CROSS JOIN visitor ON visitor.id = name.visitor
)
SELECT
    version, newest_visitor, visitors, EXISTS (SELECT 1 FROM tombstone), waiting,
    (SELECT json_group_array(json_array(number, id, version, last_seen, untrimmed, own_key))
        FROM known)
FROM store
"""
REPEATS = f"""
SELECT json_group_array(sent.column1) FROM {ROWS} AS sent WHERE EXISTS (
    SELECT 1 FROM event WHERE event.visitor = sent.column2
    AND event.event_id = sent.column3 AND event.event_id <> ''
) OR EXISTS (
    SELECT 1 FROM impression WHERE impression.visitor = sent.column2
    AND impression.event_id = sent.column3
)
"""


@dataclass(frozen=True)
class Known:
    """A visitor whom a key means."""

    visitor_id: int
    version: int
    last_seen: float
    untrimmed: int
    key: str
    """Their own one."""


@dataclass(frozen=True)
class Found:
    """What a file says before a group is written."""

    version: int
    newest_visitor: int
    visitors: int
    has_tombstones: bool
    waiting: int
    """At least as many as there are records that wait for the event log."""
    known: Mapping[str, Known]
    """By each key that means somebody."""

    def without(self, forgotten: Collection[int]) -> Found:
        """Returns it as it is once visitors were forgotten."""
        known = {key: each for key, each in self.known.items() if each.visitor_id not in forgotten}
        return replace(self, known=known, visitors=self.visitors - len(forgotten))


def look_up(connection: sqlite3.Connection, keys: Sequence[str]) -> Found:
    """Looks up visitors by their keys."""
    known: dict[str, Known] = {}
    for start in range(0, max(len(keys), 1), ROWS_AT_ONCE):
        rows = list(enumerate(keys[start : start + ROWS_AT_ONCE], start))
        row = connection.execute(*with_rows(LOOK_UP, rows, 2)).fetchone()
        version, newest_visitor, visitors, has_tombstones, waiting, listed = row
        for number, visitor_id, seen_version, last_seen, untrimmed, own_key in json.loads(listed):
            key = keys[number]
            known[key] = Known(visitor_id, seen_version, last_seen, untrimmed, own_key or key)
    return Found(version, newest_visitor, visitors, bool(has_tombstones), waiting, known)


def repeats(connection: sqlite3.Connection, sent: Sequence[tuple[int, int, str]]) -> set[int]:
    """Returns which of (number, visitor, event id) were recorded; by their numbers."""
    found: set[int] = set()
    for start in range(0, len(sent), ROWS_AT_ONCE):
        part = sent[start : start + ROWS_AT_ONCE]
        found |= set(read_json(connection, *with_rows(REPEATS, part, 3)))
    return found
