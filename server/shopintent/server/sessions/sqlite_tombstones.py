"""Tombstones of deleted visitors, in the file of the sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from shopintent.server.sessions.sqlite_rows import (
    ROWS,
    ROWS_AT_ONCE,
    execute_for,
    read_json,
    with_rows,
)
from shopintent.server.sessions.tombstones import tombstone

FIND = f"""
SELECT json_group_array(json_array(digests.column2, tombstone.deleted_at))
FROM {ROWS} AS digests CROSS JOIN tombstone ON tombstone.digest = digests.column1
WHERE tombstone.deleted_at >= ?
"""


def deletion_times(
    connection: sqlite3.Connection, keys: Sequence[str], secret: bytes, *, since: float
) -> dict[str, float]:
    """Returns by their keys when those visitors were deleted of whom there are tombstones."""
    times: dict[str, float] = {}
    for start in range(0, len(keys), ROWS_AT_ONCE):
        rows = [
            (tombstone(keys[number], secret), number)
            for number in range(start, min(start + ROWS_AT_ONCE, len(keys)))
        ]
        statement, values = with_rows(FIND, rows, 2)
        found = read_json(connection, statement, [*values, since])
        times |= {keys[number]: time for number, time in found}
    return times


def bury(connection: sqlite3.Connection, keys: Sequence[str], secret: bytes, now: float) -> None:
    """Leaves the tombstones of visitors who were deleted now."""
    rows = [(tombstone(key, secret), now) for key in keys]
    execute_for(
        connection,
        f"INSERT OR REPLACE INTO tombstone SELECT * FROM {ROWS} WHERE column1 IS NOT NULL",
        rows,
    )
