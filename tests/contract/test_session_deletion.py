"""The promises of SessionStore about visitors who are deleted, for every store there is."""

from __future__ import annotations

import pytest

from shopintent.server.sessions import EMPTY_HISTORY, IDEMPOTENT_S, BehaviorBehind
from support.session_suite import Clock, MakeStore, Store, append, seen, view

pytestmark = pytest.mark.events

NOW = 1_000_000.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


def ago(seconds: int) -> int:
    return int(NOW) - seconds


async def test_a_deleted_visitor_is_unknown_and_the_others_are_not(sessions: Store) -> None:
    await append(sessions, "v", [view("a", ago(9))])
    await append(sessions, "w", [view("b", ago(8))])
    await sessions.delete("v", timeout_s=30)
    assert await sessions.recent("v") is EMPTY_HISTORY
    assert await seen(sessions, "w") == ["b"]


@pytest.mark.parametrize("key", ["user", "phone", "laptop"])
async def test_everybody_joined_is_deleted_together(sessions: Store, key: str) -> None:
    for number, device in enumerate(["phone", "laptop"]):
        await append(sessions, "user", [view(f"p{number}", ago(number))], device)
    deleted = await sessions.delete(key, timeout_s=30)
    assert set(deleted.visitors) == {"user", "phone", "laptop"}
    assert (deleted.event_count, deleted.link_count) == (2, 2)
    for each in ("user", "phone", "laptop"):
        assert await sessions.recent(each) is EMPTY_HISTORY


async def test_what_is_held_is_found_and_after_deletion_is_not(sessions: Store) -> None:
    await append(sessions, "visitor:anna-of-the-test", [view("a", ago(9), "id")])
    await append(sessions, "user:anna-of-the-test", [view("b", ago(8))], "visitor:anna-of-the-test")
    for key in ("visitor:anna-of-the-test", "user:anna-of-the-test"):
        found = await sessions.find(key, timeout_s=30)
        assert found.event_count >= 2
        assert found.link_count == 1
    await sessions.delete("user:anna-of-the-test", timeout_s=30)
    for key in ("visitor:anna-of-the-test", "user:anna-of-the-test"):
        found = await sessions.find(key, timeout_s=30)
        assert (found.event_count, found.link_count) == (0, 0)


async def test_deleting_somebody_unknown_deletes_nothing_and_names_them(sessions: Store) -> None:
    for _ in range(2):
        deleted = await sessions.delete("v", timeout_s=30)
        assert (deleted.visitors, deleted.event_count, deleted.link_count) == (("v",), 0, 0)


async def test_events_from_before_the_deletion_are_refused_and_later_ones_are_not(
    sessions: Store, clock: Clock
) -> None:
    await append(sessions, "v", [view("a", ago(9))])
    await sessions.delete("v", timeout_s=30)
    clock.now += 60
    in_flight = [view("b", ago(1)), view("c", ago(0))]
    assert await append(sessions, "v", in_flight) == [False, False]
    assert await append(sessions, "v", [*in_flight, view("d", ago(-1))]) == [False, False, True]
    assert await seen(sessions) == ["d"]


async def test_refused_events_leave_nothing_behind(sessions: Store, clock: Clock) -> None:
    await append(sessions, "user:anna-of-the-test", [view("a", ago(9))], "visitor:anna-of-the-test")
    await sessions.delete("user:anna-of-the-test", timeout_s=30)
    clock.now += 60
    events = [view("b", ago(5), "id")]
    for visitor, alias in [
        ("user:anna-of-the-test", ""),
        ("visitor:anna-of-the-test", ""),
        ("user:anna-of-the-test", "visitor:anna-of-the-test"),
        ("user:anna-of-the-test", "visitor:another-device"),
        ("user:another", "visitor:anna-of-the-test"),
    ]:
        assert await append(sessions, visitor, events, alias) == [False]
        for key in (visitor, alias or visitor):
            found = await sessions.find(key, timeout_s=30)
            assert (found.event_count, found.link_count) == (0, 0)


async def test_events_are_refused_for_a_day(sessions: Store, clock: Clock) -> None:
    await sessions.delete("v", timeout_s=30)
    clock.now = NOW + IDEMPOTENT_S
    assert await append(sessions, "v", [view("a", ago(1))]) == [False]
    clock.now = NOW + IDEMPOTENT_S + 1
    assert await append(sessions, "v", [view("a", ago(1))]) == [True]


async def test_what_is_done_after_a_deletion_begins_a_new_visitor(
    sessions: Store, clock: Clock
) -> None:
    await append(sessions, "user", [view("a", ago(9), "id")], "anonymous")
    await sessions.delete("user", timeout_s=30)
    clock.now += 60
    await append(sessions, "anonymous", [view("b", ago(-10), "id")])
    assert await seen(sessions, "anonymous") == ["b"]
    assert await seen(sessions, "user") == []


async def test_a_position_from_before_a_deletion_is_behind(sessions: Store) -> None:
    position = (await sessions.append("v", [view("a", ago(9))], timeout_s=30)).position
    await sessions.delete("v", timeout_s=30)
    with pytest.raises(BehaviorBehind) as behind:
        await sessions.recent("v", position=position, timeout_s=0.05)
    assert behind.value.history is EMPTY_HISTORY


async def test_a_deletion_makes_room_for_another_visitor(
    make_store: MakeStore, clock: Clock
) -> None:
    sessions = make_store(clock, max_visitors=2)
    for visitor in ("v", "w"):
        await append(sessions, visitor, [view("a", ago(1))])
    await sessions.delete("w", timeout_s=30)
    await append(sessions, "x", [view("a", ago(1))])
    assert await seen(sessions, "v") == ["a"]
    await sessions.close()
