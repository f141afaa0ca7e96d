"""Statements about many rows at once.

Statements are to be few: Python's global lock is let go of around each, and around each row that is
read, and a busy event loop takes milliseconds to give it back. They are also to be ones that SQLite
has compiled before, so a number of rows is rounded up, with rows of NULL that statements skip.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

ROWS_AT_ONCE = 1_024
ROWS = "/*rows*/"
"""Where a statement has its rows, the first column of which is never NULL."""

Row = Sequence[object]


def with_rows(statement: str, rows: Sequence[Row], n_columns: int) -> tuple[str, list[object]]:
    """Returns the statement for at most ROWS_AT_ONCE rows, and the values of the rows."""
    n_rows = _rounded(len(rows))
    values = [value for row in rows for value in row]
    values += [None] * (n_columns * n_rows - len(values))
    return _statement(statement, n_rows, n_columns), values


def execute_for(connection: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> None:
    """Executes a statement about rows, however many; none need nothing."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        connection.execute(*with_rows(statement, part, len(part[0])))


def read_json(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> Any:
    """Returns the answer of a statement that answers all of its rows as one text of JSON."""
    [text] = connection.execute(statement, values).fetchone()
    return json.loads(text)


@lru_cache(maxsize=256)
def _statement(statement: str, n_rows: int, n_columns: int) -> str:
    row = f"({', '.join('?' * n_columns)})"
    return statement.replace(ROWS, f"(VALUES {', '.join([row] * n_rows)})")


def _rounded(n_rows: int) -> int:
    """Returns 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on."""
    power = 1 << max(n_rows - 1, 0).bit_length()
    return power * 3 // 4 if power >= 4 and n_rows <= power * 3 // 4 else max(power, 1)
