"""What deletion from a SQLite file of sessions promises: not a byte is left in any file."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from shopintent.artifacts.event_log import IMPRESSION
from shopintent.behavior import Event
from shopintent.server import byte_search
from shopintent.server.sessions import EMPTY_HISTORY, TrackedEvent
from shopintent.server.sessions.sqlite import SqliteSessions
from support.session_suite import KEYRING, append, seen, view

pytestmark = pytest.mark.events

ANNA = "visitor:anna-93c5b1d2e8f7"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite"


@pytest.fixture
async def sessions(path: Path) -> AsyncIterator[SqliteSessions]:
    store = SqliteSessions.open(path, pseudonyms=KEYRING)
    yield store
    await store.close()


def files_with(path: Path, text: str) -> list[str]:
    """Returns the files that have the text; by a process that has no locks to lose."""
    command = ["grep", "-r", "-l", "-a", "-F", "-e", text, str(path.parent)]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def names_of(key: str) -> list[str]:
    return [key.partition(":")[2], *KEYRING.pseudonyms(key)]


async def test_no_byte_of_a_deleted_visitor_is_left_among_many_who_come_and_go(
    path: Path,
) -> None:
    numbers = random.Random(0)
    sessions = SqliteSessions.open(path, pseudonyms=KEYRING, max_visitors=400)
    visitors = [f"visitor:{numbers.getrandbits(128):032x}{'x' * (n % 60)}" for n in range(1_200)]
    for number, visitor in enumerate(visitors):
        user = f"user:{visitor[8:]}-user" if number % 3 == 0 else ""
        shown = TrackedEvent(Event(IMPRESSION, 1), f"i{number}", shown_product_ids=("p",))
        await append(sessions, visitor, [view(f"p{number}", 1, f"e{number}"), shown])
        if user:
            await append(sessions, user, [view("p", 2)], visitor)
        if number % 100 == 0:
            await sessions.logged((await sessions.waiting())[:-50])
    for number in numbers.sample(range(900, 1_200), 25):
        visitor = visitors[number]
        assert files_with(path, visitor)
        deleted = await sessions.delete(visitor, timeout_s=30)
        assert len(deleted.visitors) == (2 if number % 3 == 0 else 1)
        for key in deleted.visitors:
            assert not [name for name in names_of(key) if files_with(path, name)]
    await sessions.close()


async def leave_behind(path: Path, statement: str) -> None:
    """Adds a row and deletes it the way that leaves its bytes in the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute(f"INSERT INTO {statement}")
        connection.execute(f"DELETE FROM {statement.split()[0]}")
        connection.commit()


@pytest.mark.parametrize(
    "statement",
    [
        f"name VALUES ('{ANNA}', 1000, NULL)",
        f"event VALUES (1000, 1, 1, '', 1, '', '', '{ANNA}', '', 0, '')",
    ],
    ids=["in-a-table-of-names", "elsewhere"],
)
async def test_what_sqlite_leaves_behind_is_found_and_deleted(
    path: Path, sessions: SqliteSessions, statement: str
) -> None:
    await leave_behind(path, statement)
    await append(sessions, "visitor:bert", [view("a", 1)])
    assert files_with(path, ANNA)
    assert (await sessions.find(ANNA, timeout_s=30)).event_count > 0
    await sessions.delete(ANNA, timeout_s=30)
    assert not files_with(path, ANNA)
    assert (await sessions.find(ANNA, timeout_s=30)).event_count == 0
    assert await seen(sessions, "visitor:bert") == ["a"]
    assert [each.product_id for each in await sessions.waiting()] == ["a"]


async def test_a_name_within_a_longer_name_is_not_found(sessions: SqliteSessions) -> None:
    for key in ("user:42", "visitor:user:4", "visitor:anna-93c5b1d2e8f7-2"):
        await append(sessions, key, [view("a", 1)])
    for key in ("user:4", ANNA):
        assert (await sessions.find(key, timeout_s=30)).event_count == 0
    assert (await sessions.find("user:42", timeout_s=30)).event_count > 0


async def test_what_another_process_holds_of_the_deleted_is_never_answered_again(
    path: Path, sessions: SqliteSessions
) -> None:
    other = SqliteSessions.open(path, pseudonyms=KEYRING)
    await append(sessions, ANNA, [view("a", 1)])
    assert await seen(other, ANNA) == ["a"]
    await sessions.delete(ANNA, timeout_s=30)
    assert await other.recent(ANNA) is EMPTY_HISTORY
    assert await append(other, ANNA, [view("b", 1)]) == [False]
    assert await other.recent(ANNA) is EMPTY_HISTORY
    assert not files_with(path, ANNA)
    await other.close()


async def test_visitors_are_deleted_while_others_come(path: Path, sessions: SqliteSessions) -> None:
    async def come(number: int) -> None:
        for time in range(30):
            await append(sessions, f"visitor:{number}", [view("p", time)])
            assert len(await seen(sessions, f"visitor:{number}")) == time + 1

    async def leave() -> None:
        for number in range(5):
            key = f"visitor:leaving-{number}-{random.getrandbits(64):016x}"
            await append(sessions, key, [view("p", 1)])
            assert (await sessions.delete(key, timeout_s=30)).event_count == 1
            assert not [name for name in names_of(key) if files_with(path, name)]

    await asyncio.gather(leave(), *(come(number) for number in range(8)))


async def test_who_had_the_device_before_does_not_keep_the_records_of_the_deleted(
    sessions: SqliteSessions,
) -> None:
    """Until a login the events of a device are logged under its own name."""
    await append(sessions, "visitor:device", [view("a", 1)])
    await append(sessions, "user:anna", [view("b", 2)], "visitor:device")
    await append(sessions, "user:bert", [view("c", 3)], "visitor:device")
    await sessions.delete("user:anna", timeout_s=30)
    waiting = await sessions.waiting()
    assert {each.product_id for each in waiting if each.product_id} == {"c"}
    assert {each.shopper for each in waiting} == {KEYRING.pseudonym("user:bert")}


def test_texts_are_counted_in_files_but_not_within_longer_ones(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"user:4 user:42 xuser:4x \0user:4\xff")
    (tmp_path / "empty").touch()
    paths = [tmp_path / "a", tmp_path / "empty", tmp_path / "missing"]
    assert byte_search.count(paths, {"user:4": []}) == 4
    assert byte_search.count(paths, {"user:4": ["user:42"]}) == 3
    assert byte_search.count(paths, {"user:4": ["user:42", "xuser:4x"]}) == 2
    assert byte_search.count(paths, {"user:4": [], "user:42": []}) == 5
    assert byte_search.count(paths, {"absent": ["absent too"]}) == 0


def test_texts_are_counted_where_parts_of_a_file_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_search, "PART_BYTES", 8)
    content = b"..user:4..xuser:42x.user:4user:4" * 7
    for shift in range(16):
        (tmp_path / "a").write_bytes(b"." * shift + content)
        paths = [tmp_path / "a"]
        assert byte_search.count(paths, {"user:4": []}) == 28
        assert byte_search.count(paths, {"user:4": ["xuser:42x"]}) == 21
