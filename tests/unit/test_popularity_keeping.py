"""The counters follow the one feed, whatever happens to it, and survive a restart."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shopintent.behavior import Event
from shopintent.server.errors import StateUnavailable
from shopintent.server.popularity import keeping
from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.keeping import PopularityKeeper
from shopintent.server.popularity.snapshot import LONGEST_AGE_S, Snapshot, SnapshotError
from shopintent.server.popularity.snapshot_file import SnapshotFile
from shopintent.server.sessions import Counted, FeedPage, TrackedEvent
from shopintent.server.sessions.memory import InMemorySessions
from support.counting import count_of
from support.server import eventually

pytestmark = pytest.mark.events

NOW = 1_700_000_000


@dataclass
class Clock:
    now: float = float(NOW)

    def __call__(self) -> float:
        return self.now


def view(product_id: str, event_time: int = NOW) -> TrackedEvent:
    return TrackedEvent(Event("view-product", event_time, product_id))


def views(popularity: Popularity, product_id: str) -> float:
    return round(count_of(popularity.popular, product_id, NOW), 6)


@dataclass
class ScriptedFeed:
    """A feed of what is put into it; set `broken` to the error that it raises."""

    events: list[Counted] = field(default_factory=list)
    broken: Exception | None = None
    asked: int = 0

    async def newest(self) -> str:
        return str(len(self._answer()))

    async def since(self, position: str, *, limit: int = 1_000) -> FeedPage:
        self.asked += 1
        page = self._answer()[int(position) :][:limit]
        return FeedPage(page, str(int(position) + len(page)))

    def _answer(self) -> list[Counted]:
        if self.broken is not None:
            raise self.broken
        return self.events


def keeper_of(
    feed: ScriptedFeed | InMemorySessions,
    *,
    clock: Clock | None = None,
    file: SnapshotFile | None = None,
    capacity: int = 1_000,
) -> PopularityKeeper:
    """Returns a keeper that goes on from the file, if there is one."""
    popularity = Popularity(capacity=capacity, clock=clock or Clock())
    position = "" if file is None else file.restore(popularity)
    return PopularityKeeper(popularity, feed, lambda product_id: "", file, position=position)


@asynccontextmanager
async def running(keeper: PopularityKeeper) -> AsyncIterator[Popularity]:
    await keeper.begin()
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper.popularity
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await keeper.close()


async def counts(popularity: Popularity, product_id: str, expected: float) -> None:
    async def are_counted() -> bool:
        return views(popularity, product_id) == expected

    await eventually(are_counted)


async def test_what_is_recorded_here_is_counted_before_the_next_look_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "FOLLOW_EVERY_S", 3600.0)
    sessions = InMemorySessions()
    keeper = keeper_of(sessions)
    async with running(keeper) as popularity:
        for number in range(1, 4):
            await sessions.append("visitor:anna", [view("a")], timeout_s=1.0)
            keeper.wake()
            await counts(popularity, "a", number)


async def test_what_others_record_is_counted_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FOLLOW_EVERY_S", 0.01)
    feed = ScriptedFeed()
    async with running(keeper_of(feed)) as popularity:
        feed.events += [Counted("view-product", NOW, "a")] * 2_500
        await counts(popularity, "a", 2_500)


async def test_what_was_recorded_before_the_first_start_is_not_counted() -> None:
    feed = ScriptedFeed([Counted("view-product", NOW, "a")])
    keeper = keeper_of(feed)
    await keeper.begin()
    feed.events.append(Counted("view-product", NOW, "b"))
    await keeper.follow()
    assert (views(keeper.popularity, "a"), views(keeper.popularity, "b")) == (0.0, 1.0)


async def test_all_servers_of_a_store_agree() -> None:
    sessions = InMemorySessions()
    one, other = keeper_of(sessions), keeper_of(sessions)
    await one.begin()
    await other.begin()
    for number in range(50):
        await sessions.append(
            f"visitor:{number % 7}", [view(f"p{number % 5}")] * (number % 3), timeout_s=1.0
        )
        if number % 4 == 0:
            await one.follow()
    await sessions.delete("visitor:3", timeout_s=1.0)
    for keeper in (one, other):
        while await keeper.follow():
            pass
    assert one.popularity.popular.values == pytest.approx(other.popularity.popular.values)
    assert len(one.popularity.popular.values) == 5


async def test_a_visitor_who_is_deleted_is_not_counted_any_more() -> None:
    sessions = InMemorySessions()
    keeper = keeper_of(sessions)
    await keeper.begin()
    await sessions.append("visitor:anna", [view("a"), view("b")], timeout_s=1.0)
    await sessions.append("visitor:bert", [view("b")], timeout_s=1.0)
    await keeper.follow()
    assert views(keeper.popularity, "a") == 1.0
    await sessions.delete("visitor:anna", timeout_s=1.0)
    await keeper.follow()
    keeper.popularity.trim(lambda product_id: "")
    assert keeper.popularity.popular.values.keys() == {"b"}
    assert views(keeper.popularity, "b") == 1.0


@pytest.mark.parametrize("error", [StateUnavailable("sessions", "gone"), RuntimeError("a bug")])
async def test_a_feed_that_can_not_be_read_for_a_time_loses_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "FOLLOW_EVERY_S", 0.01)
    monkeypatch.setattr(keeping, "LEAST_BETWEEN_S", 0.0)
    feed = ScriptedFeed(broken=error)
    async with running(keeper_of(feed)) as popularity:

        async def was_asked() -> bool:
            return "what is popular" in caplog.text

        await eventually(was_asked)
        feed.broken = None
        await eventually(lambda: _asked(feed, 1))
        feed.events.append(Counted("view-product", NOW, "a"))
        await counts(popularity, "a", 1)
        feed.broken, asked = error, feed.asked
        feed.events.append(Counted("view-product", NOW, "a"))
        await eventually(lambda: _asked(feed, asked + 3))
        assert views(popularity, "a") == 1.0
        feed.broken = None
        await counts(popularity, "a", 2)
    told = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(told) == (2 if isinstance(error, StateUnavailable) else 0)


async def _asked(feed: ScriptedFeed, times: int) -> bool:
    return feed.asked >= times


async def test_a_position_of_another_kind_of_store_is_left_behind() -> None:
    feed = ScriptedFeed([Counted("view-product", NOW, "a")])
    keeper = PopularityKeeper(
        Popularity(clock=Clock()), feed, lambda product_id: "", position="redis"
    )
    await keeper.follow()
    feed.events.append(Counted("view-product", NOW, "b"))
    await keeper.follow()
    assert keeper.popularity.popular.values.keys() == {"b"}


async def test_counting_never_holds_more_products_than_it_may() -> None:
    feed = ScriptedFeed()
    keeper = keeper_of(feed, capacity=10)
    await keeper.begin()
    feed.events += [Counted("view-product", NOW, f"p{number}") for number in range(5_000)]
    while await keeper.follow():
        assert len(keeper.popularity.popular.values) <= 120


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "popularity.json"


@pytest.fixture
def damaged(path: Path) -> Callable[[bytes], None]:
    """Returns what puts other bytes into the file."""

    def put(content: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(content)

    return put


def written(path: Path) -> dict[str, Any]:
    """Returns what the file holds."""
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


async def stopped(keeper: PopularityKeeper, feed: ScriptedFeed, events: Sequence[Counted]) -> None:
    """Counts events and stops the keeper as a server that is stopped does."""
    await keeper.begin()
    feed.events += events
    await keeper.follow()
    await keeper.close()


PURCHASES = [Counted("purchase", NOW - 3600 * hour, f"p{hour % 3}") for hour in range(10)]


async def test_a_restarted_server_goes_on_where_it_was(path: Path) -> None:
    feed, clock = ScriptedFeed(), Clock()
    before = keeper_of(feed, file=SnapshotFile(path), clock=clock)
    await stopped(before, feed, PURCHASES)
    feed.events.append(Counted("view-product", NOW, "while it was away"))
    clock.now += 3600
    after = keeper_of(feed, file=SnapshotFile(path), clock=clock)
    assert after.popularity.started_at == before.popularity.started_at == NOW
    for one, other in zip(after.popularity.counts, before.popularity.counts, strict=True):
        assert (one.values, one.landmark) == (other.values, other.landmark)
    await after.begin()
    await after.follow()
    assert views(after.popularity, "while it was away") == 1.0
    assert views(after.popularity, "p0") == views(before.popularity, "p0")


async def test_a_server_that_was_away_for_days_counts_as_one_that_was_not(path: Path) -> None:
    clock, feed = Clock(), ScriptedFeed()
    stayed = keeper_of(feed, file=SnapshotFile(path), clock=clock)
    await stopped(stayed, feed, PURCHASES)
    clock.now += 0.9 * LONGEST_AGE_S
    back = keeper_of(ScriptedFeed(), file=SnapshotFile(path), clock=clock)
    fresh = Popularity(clock=clock)
    assert fresh.now.landmark > stayed.popularity.now.landmark
    new = [Counted("purchase", int(clock.now), "p0")]
    for keeper in (stayed, back):
        keeper.popularity.count(new)
    for one, other in zip(stayed.popularity.counts, back.popularity.counts, strict=True):
        assert one.counts(clock.now).tolist() == pytest.approx(other.counts(clock.now).tolist())
        assert one.counts(clock.now).max() >= 1.0


async def test_a_snapshot_is_written_now_and_then(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "WRITE_EVERY_S", 0.01)
    monkeypatch.setattr(keeping, "FOLLOW_EVERY_S", 0.01)
    feed = ScriptedFeed()
    async with running(keeper_of(feed, file=SnapshotFile(path))):
        feed.events += PURCHASES

        async def is_written() -> bool:
            written = Popularity(clock=Clock())
            return SnapshotFile(path).restore(written) == "10" and bool(written.popular.values)

        await eventually(is_written)


async def test_of_several_processes_one_writes_and_another_takes_over(path: Path) -> None:
    feed = ScriptedFeed()
    one, other = (keeper_of(feed, file=SnapshotFile(path)) for _ in range(2))
    await one.begin()
    await other.begin()
    await one.write()
    feed.events += PURCHASES
    await other.follow()
    await other.write()
    assert written(path)["product_ids"] == []
    await one.close()
    await other.write()
    assert set(written(path)["product_ids"]) == {"p0", "p1", "p2"}
    await other.close()


def whole() -> dict[str, Any]:
    popularity = Popularity(clock=Clock())
    popularity.count(PURCHASES)
    document: dict[str, Any] = json.loads(Snapshot.of(popularity, "10").to_bytes())
    return document


DAMAGED = {
    "empty": b"",
    "torn": json.dumps(whole()).encode()[:-40],
    "another format": json.dumps({**whole(), "format_version": 2}).encode(),
    "no snapshot": b"[]",
    "a product too many": json.dumps({**whole(), "product_ids": ["a"] * 4}).encode(),
    "a number too few": json.dumps({**whole(), "landmarks": [1.0]}).encode(),
    "no number": json.dumps({**whole(), "started_at": float("nan")}).encode(),
    "no id": json.dumps({**whole(), "product_ids": [1, 2, 3]}).encode(),
    "not base64": json.dumps({**whole(), "values": "?"}).encode(),
    "another pace": json.dumps({**whole(), "half_lives_s": [1.0, 2.0, 3.0]}).encode(),
    "years old": json.dumps({**whole(), "written_at": NOW - LONGEST_AGE_S - 1}).encode(),
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_snapshot_that_is_damaged_or_old_is_named_and_not_gone_on_from(
    name: str, damaged: Callable[[bytes], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged(DAMAGED[name])
    feed = ScriptedFeed(PURCHASES.copy())
    keeper = keeper_of(feed, file=SnapshotFile(path))
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    assert keeper.popularity.popular.values == {}
    assert keeper.popularity.started_at == NOW
    await stopped(keeper, feed, [Counted("view-product", NOW, "new")])
    assert written(path)["product_ids"] == ["new"]


async def test_a_snapshot_that_can_not_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    feed = ScriptedFeed()
    keeper = keeper_of(feed, file=SnapshotFile(tmp_path / "state" / "popularity.json"))
    await stopped(keeper, feed, PURCHASES)
    assert "not up to date" in caplog.text
    assert views(keeper.popularity, "p0") > 0


async def test_a_snapshot_names_no_visitor(path: Path) -> None:
    sessions = InMemorySessions()
    keeper = keeper_of(sessions, file=SnapshotFile(path))
    await keeper.begin()
    tracked = TrackedEvent(
        Event("view-product", NOW, "p1"), event_id="event-of-anna", attribution_token="token"
    )
    await sessions.append("visitor:anna", [tracked], timeout_s=1.0)
    await keeper.follow()
    await keeper.close()
    assert whole().keys() == written(path).keys()
    for secret in ("anna", "token"):
        assert secret not in json.dumps(written(path))


def test_a_snapshot_of_other_counters_changes_nothing() -> None:
    popularity = Popularity(clock=Clock(), half_life_s=60.0)
    with pytest.raises(SnapshotError, match="pace"):
        Snapshot.from_bytes(json.dumps(whole()).encode()).restore(popularity)
    assert popularity.popular.values == {}
