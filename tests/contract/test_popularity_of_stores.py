"""What is popular, as two servers of one store count it, for every store there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.keeping import PopularityKeeper
from shopintent.server.popularity.snapshot_file import SnapshotFile
from shopintent.server.sessions import EventFeed
from shopintent.server.sessions.sqlite import SqliteSessions
from support.counting import count_of
from support.session_suite import Clock, Store, append, view

pytestmark = pytest.mark.events

NOW = 1_700_000_000


async def keeper_of(
    feed: EventFeed, clock: Clock, file: SnapshotFile | None = None
) -> PopularityKeeper:
    popularity = Popularity(clock=clock)
    position = "" if file is None else file.restore(popularity)
    keeper = PopularityKeeper(popularity, feed, lambda product_id: "", file, position=position)
    await keeper.begin()
    return keeper


async def follow(keeper: PopularityKeeper) -> None:
    while await keeper.follow():
        pass


async def test_all_servers_count_the_same_and_nothing_of_the_deleted(
    sessions: Store, clock: Clock
) -> None:
    clock.now = float(NOW)
    one, other = await keeper_of(sessions, clock), await keeper_of(sessions, clock)
    for number in range(9):
        event = view(f"p{number % 5}", NOW - 3_600 * number, f"e{number}")
        await append(sessions, f"visitor:{number % 3}", [event, event])
        if number % 4 == 0:
            await follow(one)
    for name in ("visitor:0", "visitor:1"):
        await append(sessions, name, [view(f"only of {name}", NOW)])
    await follow(one)
    await sessions.delete("visitor:1", timeout_s=30)
    await append(sessions, "visitor:2", [view("late", NOW - 7_200)])
    for keeper in (one, other):
        await follow(keeper)
        keeper.popularity.trim(lambda product_id: "")
    counted = one.popularity.popular.values
    assert counted == pytest.approx(other.popularity.popular.values)
    assert {"late", "only of visitor:0"} <= counted.keys()
    assert "only of visitor:1" not in counted
    left = [number for number in range(9) if number % 3 != 1]
    assert {key for key in counted if key.startswith("p")} == {f"p{each % 5}" for each in left}


async def test_processes_of_one_file_agree_also_after_one_of_them_restarted(
    tmp_path: Path,
) -> None:
    clock = Clock(float(NOW))
    path, file = tmp_path / "sessions.sqlite", tmp_path / "popularity.json"
    mine = SqliteSessions.open(path, clock=clock)
    theirs = SqliteSessions.open(path, clock=clock)
    one, other = await keeper_of(mine, clock), await keeper_of(theirs, clock, SnapshotFile(file))
    for number, sessions in enumerate([mine, theirs] * 10):
        await append(sessions, f"v{number % 4}", [view(f"p{number % 5}", NOW - 60 * number)])
    await follow(one)
    await follow(other)
    await other.close()
    await theirs.close()
    await append(mine, "v", [view("while one was away", NOW)] * 3)
    await mine.delete("v1", timeout_s=30)
    back = SqliteSessions.open(path, clock=clock)
    restarted = await keeper_of(back, clock, SnapshotFile(file))
    await follow(one)
    await follow(restarted)
    for keeper in (one, restarted):
        keeper.popularity.trim(lambda product_id: "")
    counted = one.popularity.popular.values
    assert counted == pytest.approx(restarted.popularity.popular.values)
    assert count_of(one.popularity.popular, "while one was away", NOW) == pytest.approx(3.0)
    await back.close()
    await mine.close()
