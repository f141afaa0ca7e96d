"""Forgets visitors in the file of the sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from shopintent.server.sessions.sqlite_rows import ROWS, execute_for, read_json

FORGOTTEN_AT_ONCE = 20
"""Visitors forgotten in one transaction, beyond those whom new ones replace."""

OF_A_VISITOR = {"event": "visitor", "impression": "visitor", "name": "visitor", "visitor": "id"}
"""The tables that have rows of a visitor, and in which column the visitor is."""
LONGEST_UNHEARD_OF = """
SELECT json_group_array(id) FROM (SELECT id FROM visitor ORDER BY version LIMIT ?)
"""


def forget(connection: sqlite3.Connection, visitor_ids: Collection[int]) -> None:
    """Deletes visitors, each of whom there is, with everything but their records."""
    rows = [(visitor_id,) for visitor_id in visitor_ids]
    for table, column in OF_A_VISITOR.items():
        execute_for(connection, f"DELETE FROM {table} WHERE {column} IN {ROWS}", rows)
    if rows:
        connection.execute("UPDATE store SET visitors = visitors - ?", (len(rows),))


def longest_unheard_of(connection: sqlite3.Connection, limit: int) -> list[int]:
    """Returns the ids of visitors, the longest unheard of first."""
    visitor_ids: list[int] = read_json(connection, LONGEST_UNHEARD_OF, (limit,))
    return visitor_ids
