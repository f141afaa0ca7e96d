"""Deletes visitors from the file of the sessions, down to its bytes, and looks for them in it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shopintent.server.byte_search import count_in_child
from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions import Deleted
from shopintent.server.sessions.sqlite_forget import forget
from shopintent.server.sessions.sqlite_rows import ROWS, execute_for, read_json, with_rows
from shopintent.server.sessions.sqlite_tombstones import bury
from shopintent.server.state import Database

SEARCHED_ANYWHERE = 16
"""Characters from which on an id is searched among all bytes, whatever kind of key it is in."""
CHECKPOINT_AGAIN_S = 0.02

NAMES = """
SELECT json_group_array(json_array(key, visitor, joined_at IS NOT NULL)) FROM name
WHERE visitor = (SELECT visitor FROM name WHERE key = ?)
"""
COUNT_EVENTS = """
SELECT (SELECT count(*) FROM event WHERE visitor = :visitor)
    + (SELECT count(*) FROM impression WHERE visitor = :visitor)
"""
TAKE_BACK = """
INSERT INTO record
SELECT (SELECT version FROM store) + row_number() OVER (ORDER BY sequence), -1, :now, '',
    event_type, event_time, '', product_id, '', '', 0, '', '', '', ''
FROM event WHERE visitor = :visitor AND product_id <> ''
"""
OF_NAMES = f"""
WITH names AS (SELECT column1 FROM {ROWS})
SELECT json_group_array(json_array(sequence, product_id <> '', alias)) FROM record
WHERE shopper IN names OR alias IN names
"""
OF_FORMER = """
SELECT json_group_array(json_array(sequence, product_id <> '', alias)) FROM record
WHERE shopper = ? AND sequence < ?
"""
# Whoever follows the feed behind may not have counted them yet, and will take them back.
UNNAME = f"""
UPDATE record SET shopper = '', event_id = '', category = '', search_query = '', quantity = 0,
    attribution_token = '', experiment_ids = '', shown_product_ids = ''
WHERE sequence IN {ROWS}
"""
DROP = f"DELETE FROM record WHERE sequence IN {ROWS}"
LONGER = "SELECT json_group_array(key) FROM name WHERE instr(key, ?) AND key <> ?"
NAMING_TABLES = ("name", "record")


@dataclass(frozen=True)
class Visitor:
    """Somebody to delete or to look for."""

    keys: tuple[str, ...]
    """The one asked for and all joined with it."""
    visitor_id: int
    """0 when unknown."""
    link_count: int


def delete(
    database: Database,
    visitor: str,
    *,
    pseudonyms: Pseudonyms | None,
    secret: bytes,
    now: float,
    timeout_s: float,
) -> Deleted:
    """Deletes a visitor and all joined with them. Raises StateUnavailable; call it again then."""
    ends_at = time.monotonic() + timeout_s
    connection = database.connect(survives_power_loss=True)
    try:
        with database.answer():
            with database.transaction(connection):
                found = _find(connection, visitor)
                n_events = _count_events(connection, found)
                _delete_rows(connection, found, now)
                bury(connection, found.keys, secret, now)
                _unname_records(connection, _pseudonyms(found.keys, pseudonyms))
            _scrub(database, connection, found, pseudonyms, ends_at)
    finally:
        connection.close()
    return Deleted(found.keys, n_events, found.link_count)


def find(
    database: Database, visitor: str, *, pseudonyms: Pseudonyms | None, timeout_s: float
) -> Deleted:
    """Counts rows, and occurrences among the bytes of the files. Raises StateUnavailable."""
    connection = database.connect()
    try:
        with database.answer():
            found = _find(connection, visitor)
            names = _pseudonyms(found.keys, pseudonyms)
            n_rows = _count_events(connection, found)
            if names:
                n_rows += len(read_json(connection, *_for_names(OF_NAMES, names)))
            n_rows += _count_bytes(database, connection, found, pseudonyms, timeout_s)
    finally:
        connection.close()
    return Deleted(found.keys, n_rows, found.link_count)


def _find(connection: sqlite3.Connection, visitor: str) -> Visitor:
    names = read_json(connection, NAMES, (visitor,))
    keys = dict.fromkeys([visitor, *(key for key, _, _ in names)])
    links = sum(is_link for _, _, is_link in names)
    return Visitor(tuple(keys), names[0][1] if names else 0, links)


def _count_events(connection: sqlite3.Connection, found: Visitor) -> int:
    [n_events] = connection.execute(COUNT_EVENTS, {"visitor": found.visitor_id}).fetchone()
    return int(n_events)


def _delete_rows(connection: sqlite3.Connection, found: Visitor, now: float) -> None:
    if found.visitor_id:
        values = {"visitor": found.visitor_id, "now": now}
        taken_back = connection.execute(TAKE_BACK, values).rowcount
        connection.execute("UPDATE store SET version = version + ?", (taken_back,))
        forget(connection, [found.visitor_id])


def _unname_records(connection: sqlite3.Connection, names: Collection[str]) -> None:
    """Leaves of a visitor's records what is counted; nobody's name is in those."""
    if not names:
        return
    records = read_json(connection, *_for_names(OF_NAMES, names))
    for sequence, _, alias in list(records):
        if alias and alias not in names:
            # Somebody else has the device by now, but until this login it was the visitor's.
            records += read_json(connection, OF_FORMER, (alias, sequence))
    counted = [(sequence,) for sequence, is_counted, _ in records if is_counted]
    others = [(sequence,) for sequence, is_counted, _ in records if not is_counted]
    execute_for(connection, UNNAME, counted)
    execute_for(connection, DROP, others)


def _scrub(
    database: Database,
    connection: sqlite3.Connection,
    found: Visitor,
    pseudonyms: Pseudonyms | None,
    ends_at: float,
) -> None:
    """Leaves no byte of the visitor's names in the files.

    SQLite overwrites what is deleted. But it does not when it moves rows from page to page: for
    about one visitor of a thousand the bytes of a name stay behind where nothing is any more. They
    go when the tables that name somebody are written anew, or else the whole file.
    """
    _checkpoint(database, connection, ends_at)
    for write_anew in (_write_names_anew, _write_file_anew):
        seconds = max(ends_at - time.monotonic(), 0.1)
        if not _count_bytes(database, connection, found, pseudonyms, seconds):
            return
        write_anew(database, connection)
        _checkpoint(database, connection, ends_at)


def _checkpoint(database: Database, connection: sqlite3.Connection, ends_at: float) -> None:
    """Leaves nothing in the write-ahead log."""
    while True:
        with database.alone():
            [busy, _, _] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            return
        if time.monotonic() > ends_at:
            raise database.unavailable(
                "what was deleted could not be moved out of the write-ahead log in time"
            )
        time.sleep(CHECKPOINT_AGAIN_S)


def _write_names_anew(database: Database, connection: sqlite3.Connection) -> None:
    with database.transaction(connection):
        for table in NAMING_TABLES:
            connection.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table}")
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM kept")
            connection.execute("DROP TABLE kept")


def _write_file_anew(database: Database, connection: sqlite3.Connection) -> None:
    with database.alone():
        # It makes a copy first, which may not fit into memory.
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute("VACUUM")


def _count_bytes(
    database: Database,
    connection: sqlite3.Connection,
    found: Visitor,
    pseudonyms: Pseudonyms | None,
    timeout_s: float,
) -> int:
    ids = (key.partition(":")[2] for key in found.keys)
    texts = [*found.keys, *(each for each in ids if len(each) >= SEARCHED_ANYWHERE)]
    # "user:4" is also among the bytes of "user:42".
    searched = {text: read_json(connection, LONGER, (text, text)) for text in texts}
    searched |= {name: [] for name in _pseudonyms(found.keys, pseudonyms)}
    return count_in_child(database.files, searched, timeout_s=timeout_s)


def _pseudonyms(keys: Sequence[str], pseudonyms: Pseudonyms | None) -> list[str]:
    if pseudonyms is None:
        return []
    return [name for key in keys for name in pseudonyms.pseudonyms(key)]


def _for_names(statement: str, names: Collection[str]) -> tuple[str, list[object]]:
    return with_rows(statement, [(name,) for name in names], 1)
