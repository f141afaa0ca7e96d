"""Drops what the file of the sessions needs no more, a little at a time."""

from __future__ import annotations

import sqlite3

from shopintent.server.sessions import IDEMPOTENT_S
from shopintent.server.sessions.limits import Limits
from shopintent.server.sessions.sqlite_forget import FORGOTTEN_AT_ONCE, forget
from shopintent.server.sessions.sqlite_records import drop, first_to_drop
from shopintent.server.sessions.sqlite_rows import read_json
from shopintent.server.state import Database

LONGEST_UNHEARD_OF = """
SELECT json_group_array(json_array(id, last_seen))
FROM (SELECT id, last_seen FROM visitor ORDER BY version LIMIT ?)
"""
OLD_TOMBSTONES = "SELECT EXISTS (SELECT 1 FROM tombstone WHERE deleted_at < ?)"


def tidy(
    database: Database,
    connection: sqlite3.Connection,
    limits: Limits,
    now: float,
    *,
    keeps_unlogged: bool,
) -> bool:
    """Forgets some who are idle or too many, and old records; returns whether there may be more.

    It takes a turn at writing only when there is something to do.
    """
    unneeded = _unneeded(connection, limits, now)
    first = first_to_drop(connection, now)
    [old_tombstones] = connection.execute(OLD_TOMBSTONES, (now - IDEMPOTENT_S,)).fetchone()
    more = len(unneeded) == FORGOTTEN_AT_ONCE
    if unneeded or old_tombstones or first is not None:
        with database.transaction(connection):
            forget(connection, _unneeded(connection, limits, now))
            connection.execute("DELETE FROM tombstone WHERE deleted_at < ?", (now - IDEMPOTENT_S,))
            if first is not None:
                more |= drop(connection, first, now, unlogged_too=not keeps_unlogged)
    return more


def _unneeded(connection: sqlite3.Connection, limits: Limits, now: float) -> list[int]:
    """Returns the longest unheard of, as far as they are idle or too many."""
    [total] = connection.execute("SELECT visitors FROM store").fetchone()
    excess = total - limits.max_visitors
    rows = read_json(connection, LONGEST_UNHEARD_OF, (FORGOTTEN_AT_ONCE,))
    return [
        visitor_id
        for number, (visitor_id, last_seen) in enumerate(rows)
        if number < excess or last_seen < now - limits.idle_s
    ]
