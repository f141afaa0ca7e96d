"""What a SQLite file of sessions promises about its past: older files, limits, reads that race."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from shopintent.behavior import Event
from shopintent.server.errors import Overloaded
from shopintent.server.sessions import Counted, TrackedEvent, sqlite_append
from shopintent.server.sessions.limits import FEED_S, Limits
from shopintent.server.sessions.sqlite import SqliteSessions
from shopintent.server.sessions.sqlite_reading import Histories
from support.server import eventually
from support.session_suite import KEYRING, Clock, append, seen, view

pytestmark = pytest.mark.events

VERSION_1 = """
CREATE TABLE visitor (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, version INTEGER NOT NULL,
    last_seen REAL NOT NULL, untrimmed INTEGER NOT NULL
);
CREATE INDEX visitor_by_version ON visitor (version);
CREATE TABLE event (
    visitor INTEGER NOT NULL, event_time INTEGER NOT NULL, sequence INTEGER NOT NULL,
    event_id TEXT NOT NULL, received_at REAL NOT NULL, event_type TEXT NOT NULL,
    product_id TEXT NOT NULL, category TEXT NOT NULL, search_query TEXT NOT NULL,
    quantity INTEGER NOT NULL, attribution_token TEXT NOT NULL,
    PRIMARY KEY (visitor, event_time, sequence)
) WITHOUT ROWID;
CREATE UNIQUE INDEX event_by_id ON event (visitor, event_id) WHERE event_id <> '';
CREATE TABLE totals (visitors INTEGER NOT NULL);
INSERT INTO totals VALUES (2);
INSERT INTO visitor VALUES (1, 'visitor:v', 2, 100.0, 2), (7, 'visitor:w', 3, 101.0, 1);
INSERT INTO event VALUES
    (1, 10, 1, 'a', 100.0, 'view-product', 'a', '', '', 0, 'token'),
    (1, 5, 2, 'b', 100.0, 'view-product', 'b', '', '', 0, ''),
    (7, 6, 3, '', 101.0, 'search', '', '', 'chair', 0, '');
PRAGMA user_version = 1;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite"


async def test_a_file_of_the_first_version_keeps_its_visitors(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    clock = Clock(200.0)
    for _ in range(2):
        store = SqliteSessions.open(path, pseudonyms=KEYRING, max_visitors=2, clock=clock)
        assert await seen(store, "visitor:v") == ["b", "a"]
        assert (await store.recent("visitor:w")).events == (
            Event("search", 6, search_query="chair"),
        )
        assert await append(store, "visitor:v", [view("a", 10, "a")]) == [False]
        await store.close()
    store = SqliteSessions.open(path, pseudonyms=KEYRING, max_visitors=2, clock=clock)
    await append(store, "visitor:v", [view("c", 7)])
    await append(store, "visitor:x", [view("d", 1)])
    assert await seen(store, "visitor:v") == ["b", "c", "a"]
    assert await seen(store, "visitor:w") == []
    assert [each.product_id for each in await store.waiting()] == ["c", "d"]
    await append(store, "user:u", [], "visitor:v")
    assert await seen(store, "user:u") == ["b", "c", "a"]
    await store.close()


async def test_a_file_that_was_moved_away_is_noticed_by_the_feed(path: Path) -> None:
    store = SqliteSessions.open(path)
    await append(store, "v", [view("a", 1)] * 10)
    position = await store.newest()
    await store.close()
    os.rename(path, path.with_name("moved"))
    store = SqliteSessions.open(path)
    await append(store, "v", [view("b", 1)])
    assert (await store.since(position)).events == [Counted("view-product", 1, "b")]
    await store.close()


@pytest.fixture
def few_unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_append, "MAX_UNLOGGED", 10)


@pytest.mark.usefixtures("few_unlogged")
async def test_more_records_than_may_wait_for_the_log_are_refused_and_not_added(
    path: Path,
) -> None:
    store = SqliteSessions.open(path, pseudonyms=KEYRING)
    await append(store, "v", [view(f"p{time}", time) for time in range(11)])
    with pytest.raises(Overloaded):
        await append(store, "v", [view("refused", 20, "id")])
    assert len(await seen(store)) == 11
    waiting = await store.waiting()
    assert len(waiting) == 11
    await store.logged(waiting[:5])
    assert await append(store, "v", [view("added", 20, "id")]) == [True]
    await store.close()


@pytest.mark.usefixtures("few_unlogged")
async def test_nothing_is_refused_where_no_log_is_kept(path: Path) -> None:
    store = SqliteSessions.open(path)
    for time in range(20):
        await append(store, "v", [view("p", time)])
    await store.close()
    store = SqliteSessions.open(path, pseudonyms=KEYRING)
    assert await append(store, "v", [view("p", 20)]) == [True]
    assert [each.event_time for each in await store.waiting()] == [20]
    await store.close()


async def test_records_stay_for_the_feed_and_go_once_they_are_logged(path: Path) -> None:
    clock = Clock(1_000.0)
    store = SqliteSessions.open(path, pseudonyms=KEYRING, clock=clock)
    begin = await store.newest()
    await append(store, "v", [view("a", 1), view("b", 2), view("c", 3)])
    await store.logged((await store.waiting())[:2])
    assert len((await store.since(begin)).events) == 3
    clock.now += FEED_S + 1

    async def logged_ones_are_gone() -> bool:
        return [each.product_id for each in (await store.since(begin)).events] == ["c"]

    await eventually(logged_ones_are_gone)
    assert [each.product_id for each in await store.waiting()] == ["c"]
    await store.close()


class Interrupted:
    """A connection that lets something happen once it has found a visitor."""

    def __init__(self, connection: sqlite3.Connection, happen: Callable[[], None]) -> None:
        self._connection = connection
        self._happen = happen

    def execute(self, statement: str, values: Any) -> Any:
        cursor = self._connection.execute(statement, values)
        if "last_seen" not in statement:
            return cursor
        row = cursor.fetchone()
        self._happen()
        return _Fetched(row)


class _Fetched:
    def __init__(self, row: Any) -> None:
        self._row = row

    def fetchone(self) -> Any:
        return self._row


async def test_an_event_that_comes_while_another_is_read_is_read_once(path: Path) -> None:
    store = SqliteSessions.open(path, clock=Clock(100.0))
    await append(store, "v", [view("a", 1)])
    with closing(sqlite3.connect(path)) as connection:

        def add_one() -> None:
            if not later:
                later.append("b")
                with closing(sqlite3.connect(path)) as other:
                    other.execute(
                        "INSERT INTO event SELECT id, 2, version + 1, '', 1, 'view-product', 'b',"
                        " '', '', 0, '' FROM visitor"
                    )
                    other.execute("UPDATE visitor SET version = version + 1")
                    other.commit()

        later: list[str] = []
        interrupted: Any = Interrupted(connection, add_one)
        histories = Histories(interrupted, Limits(), Clock(100.0), cached=10)
        for expected in (["a"], ["a", "b"], ["a", "b"]):
            events = histories.of("v").history.events
            assert [event.product_id for event in events] == expected
    await store.close()


async def test_a_key_may_hold_any_character(path: Path) -> None:
    store = SqliteSessions.open(path, pseudonyms=KEYRING)
    keys = ["a\0b", "a", "a\0", "ключ 🪑", '"', "a\n"]
    for number, key in enumerate(keys):
        await append(store, f"visitor:{key}", [TrackedEvent(Event("search", number), "id")])
        await append(store, f"user:{key}", [], f"visitor:{key}")
    for number, key in enumerate(keys):
        for kind in ("visitor", "user"):
            [event] = (await store.recent(f"{kind}:{key}")).events
            assert event.event_time == number
    names = [f"{kind}:{key}" for key in keys for kind in ("visitor", "user")]
    assert {each.shopper for each in await store.waiting()} == {
        KEYRING.pseudonym(name) for name in names
    }
    await store.close()
