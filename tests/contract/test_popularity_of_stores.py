"""What is popular, as two servers of one store count it, for every store there is."""

from __future__ import annotations

import pytest

from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.keeping import PopularityKeeper
from shopintent.server.sessions import EventFeed
from support.session_suite import Clock, Store, append, view

pytestmark = pytest.mark.events

NOW = 1_700_000_000


async def keeper_of(feed: EventFeed, clock: Clock) -> PopularityKeeper:
    keeper = PopularityKeeper(Popularity(clock=clock), feed, lambda product_id: "")
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
