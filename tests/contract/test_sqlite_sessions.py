"""What sessions in a SQLite file promise beyond SessionStore: they last, and are shared.

SHOPINTENT_LONG_TESTS=1 kills 50 times.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopintent.artifacts.event_log import LOGIN
from shopintent.behavior import Event
from shopintent.server.errors import Overloaded, StateUnavailable
from shopintent.server.sessions import EMPTY_HISTORY, IDEMPOTENT_S, BehaviorBehind, TrackedEvent
from shopintent.server.sessions import sqlite as sqlite_sessions
from shopintent.server.sessions.limits import IDS_PER_EVENT
from shopintent.server.sessions.sqlite import SqliteSessions
from shopintent.server.sessions.sqlite_group import TRIM_EVERY
from support.server import eventually
from support.session_suite import KEYRING
from support.tracking import VISITORS, batch

KILLS = 50 if os.environ.get("SHOPINTENT_LONG_TESTS") else 10
FILES = count()

pytestmark = pytest.mark.events


def view(product_id: str, event_time: int = 1, event_id: str = "") -> TrackedEvent:
    return TrackedEvent(Event("view-product", event_time, product_id), event_id)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sessions.sqlite"


@pytest.fixture
async def sessions(path: Path) -> AsyncIterator[SqliteSessions]:
    store = SqliteSessions.open(path)
    yield store
    await store.close()


async def append(sessions: SqliteSessions, visitor: str, events: list[TrackedEvent]) -> list[bool]:
    return (await sessions.append(visitor, events, timeout_s=60)).new


async def seen(sessions: SqliteSessions, visitor: str = "v") -> list[str]:
    return [event.product_id for event in (await sessions.recent(visitor)).events]


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


async def test_events_outlive_the_process(path: Path) -> None:
    tracked = TrackedEvent(Event("search", 3, search_query="a\0b 🪑"), "id", "token")
    first = SqliteSessions.open(path)
    await first.append("v", [tracked], timeout_s=10)
    await first.close()
    second = SqliteSessions.open(path)
    assert (await second.recent("v")).events == (tracked.event,)
    assert await append(second, "v", [tracked]) == [False]
    await second.close()
    assert rows(path, "SELECT attribution_token FROM event") == [("token",)]


async def test_what_one_process_acknowledged_the_others_see(
    sessions: SqliteSessions, path: Path
) -> None:
    """Two stores share nothing but the file, as two processes do."""
    other = SqliteSessions.open(path)
    for number in range(200):
        writer, reader = random.sample([sessions, other], 2)
        await append(writer, "v", [view(f"p{number}", number, str(number))])
        assert (await seen(reader))[-1] == f"p{number}"
        assert await append(reader, "v", [view("again", 1, str(number))]) == [False]
    assert await seen(sessions) == await seen(other) == [f"p{number}" for number in range(200)]
    await other.close()


async def test_what_another_process_acknowledged_is_seen(
    sessions: SqliteSessions, path: Path
) -> None:
    tracker = start_tracker(path, 0)
    assert tracker.stdout is not None
    for _ in range(50):
        number = int(await asyncio.to_thread(tracker.stdout.readline))
        visitor, events = batch(0, number)
        assert {each.event_id for each in events} <= set(await seen(sessions, visitor))
    tracker.kill()
    tracker.communicate()


def start_tracker(path: Path, round_number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "support.tracking", str(path), str(round_number)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )


async def test_kill_9_loses_no_acknowledged_event_and_doubles_none(path: Path) -> None:
    acknowledged: set[str] = set()
    for round_number in range(KILLS):
        tracker = start_tracker(path, round_number)
        assert tracker.stdout is not None
        first = await asyncio.to_thread(tracker.stdout.readline)
        await asyncio.sleep(random.uniform(0, 0.2))
        tracker.kill()
        rest, _ = await asyncio.to_thread(tracker.communicate)
        # A last line cut short by the kill is of a batch that was acknowledged, but which is gone.
        numbers = [int(line) for line in (first + rest).splitlines(True) if line.endswith("\n")]
        sent = (batch(round_number, number)[1] for number in numbers)
        acknowledged |= {each.event_id for events in sent for each in events}
    store = SqliteSessions.open(path, max_events=1_000_000)
    held = Counter([name for each in range(VISITORS) for name in await seen(store, f"v{each}")])
    assert acknowledged <= held.keys()
    assert set(held.values()) == {1}
    partly = Counter(name.rpartition(".")[0] for name in held)
    assert set(partly.values()) == {2}, "a batch was added in part"
    records = await store.waiting(limit=1_000_000)
    assert Counter(each.event_id for each in records if each.event_type != LOGIN) == held
    await store.close()


appends = st.lists(
    st.tuples(
        st.sampled_from(["v", "w"]),
        st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["", "x", "y", "z"])), max_size=6),
    ),
    max_size=12,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=appends, max_events=st.integers(1, 6), stores=st.integers(1, 2))
async def test_appends_at_once_leave_what_one_after_another_would(
    tmp_path: Path, batches: list[tuple[str, list[tuple[int, str]]]], max_events: int, stores: int
) -> None:
    """Appends that share a group, or come through two stores, are as good as alone."""
    path = tmp_path / f"{next(FILES)}.sqlite"
    opened = [SqliteSessions.open(path, max_events=max_events) for _ in range(stores)]
    sent = []
    for number, (visitor, shape) in enumerate(batches):
        events = [
            view(f"{number}.{part}", event_time, event_id)
            for part, (event_time, event_id) in enumerate(shape)
        ]
        sent.append((visitor, events))
    jobs = [
        append(opened[number % stores], visitor, events)
        for number, (visitor, events) in enumerate(sent)
    ]
    answers = await asyncio.gather(*jobs)
    for visitor in "vw":
        kept: list[Event] = []
        ids: list[str] = []
        for (whose, events), new in zip(sent, answers, strict=True):
            added = [each for each, is_new in zip(events, new, strict=True) if is_new]
            if whose == visitor:
                kept += [each.event for each in added]
                ids += [each.event_id for each in added if each.event_id]
        assert len(ids) == len(set(ids)), "an id was new twice"
        possible = {
            event_id
            for whose, events in sent
            if whose == visitor
            for event_id in (each.event_id for each in events)
            if event_id
        }
        assert set(ids) == possible, "an id was never new"
        kept = sorted(kept, key=lambda event: event.event_time)[-max_events:]
        for store in opened:
            found = list((await store.recent(visitor)).events)
            if stores == 1:
                assert found == kept
            else:  # Which store came first is not known, so ties may be in either order.
                assert [e.event_time for e in found] == [e.event_time for e in kept]
    for store in opened:
        await store.close()


logins = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "v1", "v2", "v3"]),
        st.sampled_from(["", "v1", "v2", "v3"]),
        st.integers(0, 3),
    ),
    max_size=12,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(calls=logins, stores=st.integers(1, 2))
async def test_joins_at_once_lose_no_event_and_double_none(
    tmp_path: Path, calls: list[tuple[str, str, int]], stores: int
) -> None:
    path = tmp_path / f"{next(FILES)}.sqlite"
    opened = [SqliteSessions.open(path, pseudonyms=KEYRING) for _ in range(stores)]
    sent = [
        (visitor, [view(f"{number}.{part}", part, f"{number}.{part}") for part in range(n)], alias)
        for number, (visitor, alias, n) in enumerate(calls)
    ]
    await asyncio.gather(
        *(
            opened[number % stores].append(visitor, events, timeout_s=60, alias=alias)
            for number, (visitor, events, alias) in enumerate(sent)
        )
    )
    names = Counter(each.event_id for _, events, _ in sent for each in events)
    for store in opened:
        histories = {await store.recent(key) for key in ("u1", "u2", "v1", "v2", "v3")}
        seen_once = Counter(event.product_id for each in histories for event in each.events)
        assert seen_once == names
    records = await opened[0].waiting()
    assert Counter(each.event_id for each in records if each.event_type != LOGIN) == names
    for store in opened:
        await store.close()


async def test_a_bad_event_does_not_fail_its_neighbors(sessions: SqliteSessions) -> None:
    answers = await asyncio.gather(
        append(sessions, "v", [view("a")]),
        append(sessions, "v", [view("b"), view("\ud800")]),
        append(sessions, "w", [view("c")]),
        return_exceptions=True,
    )
    assert isinstance(answers[1], UnicodeEncodeError)
    assert (answers[0], answers[2]) == ([True], [True])
    assert (await seen(sessions), await seen(sessions, "w")) == (["a"], ["c"])


@contextmanager
def another_writes(path: Path) -> Iterator[None]:
    """Keeps every store waiting, as a process does that takes long to write."""
    with path.with_name(path.name + ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def test_more_than_can_wait_is_refused_and_not_added(
    sessions: SqliteSessions, path: Path
) -> None:
    too_many = sqlite_sessions.MAX_WAITING + sqlite_sessions.GROUP_EVENTS + 1
    with another_writes(path):
        appends = [
            asyncio.create_task(append(sessions, f"v{number}", [view("p")]))
            for number in range(too_many)
        ]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*appends, return_exceptions=True)
    refused = {n for n, answer in enumerate(answers) if isinstance(answer, Overloaded)}
    added = {n for n, answer in enumerate(answers) if answer == [True]}
    assert refused
    assert len(refused) + len(added) == too_many
    assert {n for n in range(too_many) if await seen(sessions, f"v{n}")} == added


async def test_an_append_that_waits_too_long_is_not_added(
    sessions: SqliteSessions, path: Path
) -> None:
    async def is_taken_up() -> bool:
        return sessions._writer._waiting.empty()

    with another_writes(path):
        started = asyncio.create_task(append(sessions, "v", [view("taken up")]))
        await asyncio.sleep(0)
        await eventually(is_taken_up)
        with pytest.raises(StateUnavailable, match="in time"):
            await sessions.append("v", [view("late")], timeout_s=0.02)
    await started
    assert await seen(sessions) == ["taken up"]


async def test_an_id_is_forgotten_when_its_day_is_over(path: Path) -> None:
    """So that a visitor who never stops is held in bounded space."""
    now = [0.0]
    store = SqliteSessions.open(path, max_events=5, clock=lambda: now[0])
    for number in range(100):
        await append(store, "v", [view("p", number, f"old {number}")])
    now[0] = IDEMPOTENT_S + 1
    for number in range(100, 200):
        await append(store, "v", [view("p", number, f"new {number}")])
    [[old]] = rows(path, "SELECT count(*) FROM event WHERE event_id LIKE 'old%'")
    assert old == 0
    for number in range(200, 1_000):
        await append(store, "v", [view("p", number, f"new {number}")])
    [[held]] = rows(path, "SELECT count(*) FROM event")
    assert isinstance(held, int)
    assert held < 5 * IDS_PER_EVENT + TRIM_EVERY
    await store.close()


async def test_a_smaller_limit_is_reached_in_steps(path: Path) -> None:
    store = SqliteSessions.open(path)
    for number in range(100):
        await append(store, f"v{number}", [view("p")])
    await store.close()
    store = SqliteSessions.open(path, max_visitors=10)

    async def all_forgotten() -> bool:
        return rows(path, "SELECT visitors FROM store") == [(10,)]

    await eventually(all_forgotten)
    assert rows(path, "SELECT count(*) FROM visitor") == [(10,)]
    assert rows(path, "SELECT count(DISTINCT visitor) FROM event") == [(10,)]
    assert await store.recent("v89") is EMPTY_HISTORY
    assert await seen(store, "v90") == ["p"]
    await store.close()


def test_a_file_that_is_no_database_is_named_with_the_remedy(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(StateUnavailable, match=r"not a database.*move sessions\.sqlite\*"):
        SqliteSessions.open(path)


def damage(path: Path, *, after_pages: int) -> None:
    """Leaves nothing of the file but its first pages; the first of all holds the schema."""
    with path.open("r+b") as file:
        n_bytes = file.seek(0, os.SEEK_END)
        assert n_bytes > 4096 * after_pages
        file.seek(4096 * after_pages)
        file.write(os.urandom(n_bytes - 4096 * after_pages))


async def test_a_damaged_file_is_named_when_it_is_noticed(path: Path) -> None:
    store = SqliteSessions.open(path)
    await append(store, "v", [view("p")] * 2_000)
    await store.close()
    damage(path, after_pages=20)
    store = SqliteSessions.open(path)
    with pytest.raises(StateUnavailable, match=r"damaged.*move sessions\.sqlite\*"):
        await store.recent("v")
    with pytest.raises(StateUnavailable, match=r"damaged.*move sessions\.sqlite\*"):
        await append(store, "v", [view("p")])
    await store.close()


async def test_a_damaged_file_is_named_when_it_is_opened(path: Path) -> None:
    await SqliteSessions.open(path).close()
    damage(path, after_pages=1)
    with pytest.raises(StateUnavailable, match=r"damaged.*move sessions\.sqlite\*"):
        SqliteSessions.open(path)


@pytest.mark.parametrize(("version", "age"), [(99, "a newer"), (0, "another")])
def test_a_file_of_another_version_is_not_touched(path: Path, version: int, age: str) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(StateUnavailable, match=f"{age} version"):
        SqliteSessions.open(path)
    assert rows(path, "SELECT name FROM sqlite_master") == [("theirs",)]


@pytest.mark.parametrize("name", ["max_visitors", "max_events", "idle_s"])
def test_limits_must_be_above_zero(path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        SqliteSessions.open(path, **{name: 0})  # type: ignore[arg-type]


def copy(path: Path, target: Path) -> None:
    for suffix in ("", "-wal"):
        part = path.with_name(path.name + suffix)
        copied = target.with_name(target.name + suffix)
        copied.write_bytes(part.read_bytes() if part.exists() else b"")


async def test_what_a_loss_of_power_took_is_not_mistaken_for_what_comes_later(path: Path) -> None:
    """The event log may hold records that the file lost, and a caller a position."""
    before = SqliteSessions.open(path, pseudonyms=KEYRING)
    await append(before, "v", [view("p1")])
    survived = path.with_name("survived")
    copy(path, survived)
    lost = await before.append("v", [view("p2")], timeout_s=60)
    [_, lost_record] = await before.waiting()
    await before.close()
    copy(survived, path)
    after = SqliteSessions.open(path, pseudonyms=KEYRING)
    with pytest.raises(BehaviorBehind):
        await after.recent("v", position=lost.position)
    await append(after, "v", [view("p3")])
    [_, record] = await after.waiting()
    await after.close()
    assert (record.product_id, record.source) == ("p3", lost_record.source)
    assert record.sequence > lost_record.sequence
