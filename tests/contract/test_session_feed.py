"""The promises of EventFeed, for every store there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shopintent.artifacts.event_log import IMPRESSION
from shopintent.behavior import Event
from shopintent.server.sessions import Counted, TrackedEvent
from support.session_suite import Clock, Store, append, view

pytestmark = pytest.mark.events


def counted(product_id: str, event_time: int, weight: int = 1) -> Counted:
    return Counted("view-product", event_time, product_id, weight)


async def fed(sessions: Store, position: str, limit: int = 1_000) -> list[Counted]:
    return (await sessions.since(position, limit=limit)).events


async def test_the_feed_tells_what_was_recorded_since(sessions: Store) -> None:
    await append(sessions, "v", [view("before", 1)])
    position = await sessions.newest()
    assert await fed(sessions, position) == []
    await append(sessions, "v", [view("a", 2), view("b", 3)])
    await append(sessions, "w", [view("c", 1)])
    assert await fed(sessions, position) == [counted("a", 2), counted("b", 3), counted("c", 1)]


async def test_pages_tell_everything_once(sessions: Store) -> None:
    position = await sessions.newest()
    events = [view(f"p{number}", number) for number in range(10)]
    await append(sessions, "v", events)
    told: list[Counted] = []
    for _ in range(20):
        page = await sessions.since(position, limit=3)
        told += page.events
        position = page.position
    assert sorted(told, key=lambda each: each.event_time) == [
        counted(f"p{number}", number) for number in range(10)
    ]
    assert await fed(sessions, await sessions.newest()) == []


async def test_the_feed_tells_no_repeats_no_impressions_and_nothing_without_a_product(
    sessions: Store,
) -> None:
    position = await sessions.newest()
    impression = TrackedEvent(Event(IMPRESSION, 1), "i", shown_product_ids=("x",))
    search = TrackedEvent(Event("search", 1, search_query="x"))
    await append(sessions, "v", [view("a", 1, "id"), impression, search, view("a", 1, "id")])
    await append(sessions, "v", [view("a", 1, "id"), impression])
    await append(sessions, "user", [], "v")
    assert await fed(sessions, position) == [counted("a", 1)]


async def test_a_deletion_takes_events_back(sessions: Store, clock: Clock) -> None:
    clock.now = 100.0
    await append(sessions, "v", [view("a", 1), view("b", 2)])
    await append(sessions, "w", [view("a", 3)])
    await append(sessions, "user", [view("c", 4)], "v")
    position = await sessions.newest()
    await sessions.delete("v", timeout_s=30)
    taken = await fed(sessions, position)
    assert {each.weight for each in taken} == {-1}
    events = [replace(each, weight=1) for each in taken]
    assert sorted(events, key=lambda each: each.event_time) == [
        counted("a", 1),
        counted("b", 2),
        counted("c", 4),
    ]


async def test_who_follows_behind_a_deletion_counts_to_zero(sessions: Store, clock: Clock) -> None:
    clock.now = 100.0
    position = await sessions.newest()
    await append(sessions, "v", [view("a", 1), view("b", 2)])
    await append(sessions, "v", [view("a", 3)])
    await sessions.delete("v", timeout_s=30)
    counts: dict[str, int] = {}
    for each in await fed(sessions, position):
        counts[each.product_id] = counts.get(each.product_id, 0) + each.weight
    assert counts == {"a": 0, "b": 0}


@pytest.mark.parametrize("text", ["", "x", "1:2:3"])
async def test_a_text_that_is_no_position_of_the_feed_is_refused(
    sessions: Store, text: str
) -> None:
    with pytest.raises(ValueError, match="position"):
        await sessions.since(text)
