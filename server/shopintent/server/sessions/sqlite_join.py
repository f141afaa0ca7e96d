"""Joins an anonymous visitor with a shopper who logged in, in the file of the sessions."""

from __future__ import annotations

import sqlite3

from shopintent.artifacts.event_log import LOGIN
from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions.limits import MAX_ALIASES

FIND = "SELECT visitor, joined_at IS NULL FROM name WHERE key = ?"
DROP_REPEATS = """
DELETE FROM event WHERE visitor = :other AND event_id <> '' AND (
    EXISTS (SELECT 1 FROM event AS own WHERE own.visitor = :visitor
        AND own.event_id = event.event_id AND own.event_id <> '')
    OR EXISTS (SELECT 1 FROM impression AS own WHERE own.visitor = :visitor
        AND own.event_id = event.event_id)
)
"""
# Numbered anew, so that whoever read the visitor's events before reads these as added since.
MOVE_EVENTS = """
INSERT INTO event
SELECT :visitor, event_time, :version + row_number() OVER (ORDER BY sequence), event_id,
    received_at, event_type, product_id, category, search_query, quantity, attribution_token
FROM event WHERE visitor = :other
"""
MOVE_IMPRESSIONS = """
INSERT OR IGNORE INTO impression
SELECT :visitor, sequence, event_id, received_at FROM impression WHERE visitor = :other
AND NOT EXISTS (SELECT 1 FROM event WHERE event.visitor = :visitor
    AND event.event_id = impression.event_id AND event.event_id <> '')
"""
MOVE_NAMES = """
UPDATE name SET visitor = :visitor, joined_at = coalesce(joined_at, :now) WHERE visitor = :other
"""
POINT = """
INSERT INTO name VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET visitor = excluded.visitor, joined_at = excluded.joined_at
"""
DROP_OLD_NAMES = f"""
DELETE FROM name WHERE key IN (
    SELECT key FROM name WHERE visitor = ? AND joined_at IS NOT NULL
    ORDER BY joined_at DESC LIMIT -1 OFFSET {MAX_ALIASES}
)
"""
RECORD = """
INSERT INTO record VALUES (?, 1, ?, ?, ?, ?, '', '', '', '', 0, '', '', '', ?)
"""


def join(
    connection: sqlite3.Connection,
    visitor: str,
    alias: str,
    *,
    pseudonyms: Pseudonyms | None,
    now: float,
) -> None:
    """Lets `alias` mean the visitor, with what it did if it meant nobody else until now."""
    visitor_id = _heard_of(connection, visitor, now)
    other = connection.execute(FIND, (alias,)).fetchone()
    if other is not None and other[0] == visitor_id:
        return
    if other is not None and other[1]:
        _merge(connection, visitor_id, other[0], now)
    else:
        connection.execute(POINT, (alias, visitor_id, now))
    connection.execute(DROP_OLD_NAMES, (visitor_id,))
    version = _next_version(connection)
    connection.execute(
        "UPDATE visitor SET version = ?, last_seen = ? WHERE id = ?", (version, now, visitor_id)
    )
    if pseudonyms is not None:
        [own_key] = connection.execute(
            "SELECT key FROM name WHERE visitor = ? AND joined_at IS NULL", (visitor_id,)
        ).fetchone()
        shopper, former = pseudonyms.pseudonym(own_key), pseudonyms.pseudonym(alias)
        connection.execute(RECORD, (version, now, shopper, LOGIN, int(now), former))
        connection.execute("UPDATE store SET waiting = waiting + 1")


def _heard_of(connection: sqlite3.Connection, visitor: str, now: float) -> int:
    """Returns the id of the visitor, who is a new one if need be."""
    found = connection.execute(FIND, (visitor,)).fetchone()
    if found is not None:
        return int(found[0])
    connection.execute(
        "UPDATE store SET newest_visitor = newest_visitor + 1, visitors = visitors + 1"
    )
    [visitor_id] = connection.execute("SELECT newest_visitor FROM store").fetchone()
    connection.execute("INSERT INTO visitor VALUES (?, 0, ?, 0)", (visitor_id, now))
    connection.execute("INSERT INTO name VALUES (?, ?, NULL)", (visitor, visitor_id))
    return int(visitor_id)


def _merge(connection: sqlite3.Connection, visitor_id: int, other_id: int, now: float) -> None:
    """Moves everything of another visitor; events of an id that both have stay the visitor's."""
    [version] = connection.execute("SELECT version FROM store").fetchone()
    ids = {"visitor": visitor_id, "other": other_id}
    connection.execute(DROP_REPEATS, ids)
    moved = connection.execute(MOVE_EVENTS, {**ids, "version": version}).rowcount
    connection.execute(MOVE_IMPRESSIONS, ids)
    connection.execute(MOVE_NAMES, {**ids, "now": now})
    for table in ("event", "impression"):
        connection.execute(f"DELETE FROM {table} WHERE visitor = :other", ids)
    connection.execute("DELETE FROM visitor WHERE id = :other", ids)
    connection.execute(
        "UPDATE visitor SET untrimmed = untrimmed + ? WHERE id = ?", (moved, visitor_id)
    )
    connection.execute("UPDATE store SET version = version + ?, visitors = visitors - 1", (moved,))


def _next_version(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE store SET version = version + 1")
    [version] = connection.execute("SELECT version FROM store").fetchone()
    return int(version)
