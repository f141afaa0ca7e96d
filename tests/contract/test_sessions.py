"""The promises of SessionStore about appending and reading, for every store there is."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopintent.artifacts.event_log import IMPRESSION
from shopintent.behavior import Event
from shopintent.server.sessions import (
    EMPTY_HISTORY,
    IDEMPOTENT_S,
    BehaviorBehind,
    SessionStore,
    TrackedEvent,
)
from shopintent.server.sessions.limits import IDS_PER_EVENT
from shopintent.server.sessions.memory import InMemorySessions
from support.session_suite import (
    IDLE_S,
    MAX_EVENTS,
    Clock,
    MakeStore,
    append,
    events_of,
    seen,
    view,
)


async def test_a_visitor_never_heard_of_has_no_events(sessions: SessionStore) -> None:
    assert await sessions.recent("nobody") is EMPTY_HISTORY


async def test_what_was_appended_is_recent(sessions: SessionStore) -> None:
    events = [
        Event("view-product", 10, "стул 🪑"),
        Event("view-category", 11, category="Garden > Chairs"),
        Event("search", 12, search_query="folding chair"),
    ]
    assert await append(sessions, "v", [TrackedEvent(event) for event in events]) == [True] * 3
    assert await events_of(sessions) == events


async def test_visitors_do_not_see_each_other(sessions: SessionStore) -> None:
    await append(sessions, "v", [view("a", 1)])
    await append(sessions, "w", [view("b", 2)])
    assert (await seen(sessions, "v"), await seen(sessions, "w")) == (["a"], ["b"])


async def test_events_out_of_order_are_read_by_time(sessions: SessionStore) -> None:
    await append(sessions, "v", [view("c", 30), view("a", 10)])
    await append(sessions, "v", [view("b", 20)])
    assert await seen(sessions) == ["a", "b", "c"]


async def test_events_of_one_time_are_read_in_the_order_given(sessions: SessionStore) -> None:
    await append(sessions, "v", [view("a", 10), view("b", 10)])
    await append(sessions, "v", [view("late", 20), view("c", 10)])
    assert await seen(sessions) == ["a", "b", "c", "late"]


async def test_only_the_newest_events_by_time_are_kept(sessions: SessionStore) -> None:
    await append(sessions, "v", [view(f"p{time}", time) for time in (5, 1, 4, 2)])
    await append(sessions, "v", [view(f"p{time}", time) for time in (7, 3, 6)])
    assert await seen(sessions) == ["p3", "p4", "p5", "p6", "p7"]


async def test_an_event_older_than_all_that_are_kept_is_not_kept(sessions: SessionStore) -> None:
    await append(sessions, "v", [view(f"p{time}", time) for time in range(10, 15)])
    await append(sessions, "v", [view("old", 1)])
    assert await seen(sessions) == ["p10", "p11", "p12", "p13", "p14"]


async def test_a_retried_append_counts_nothing_twice(sessions: SessionStore) -> None:
    events = [view("a", 1, "id-1"), view("b", 2, "id-2")]
    assert await append(sessions, "v", events) == [True, True]
    again = [events[0], view("c", 3, "id-3"), events[1]]
    assert await append(sessions, "v", again) == [False, True, False]
    assert await seen(sessions) == ["a", "b", "c"]


async def test_an_id_repeated_within_one_append_counts_once(sessions: SessionStore) -> None:
    assert await append(sessions, "v", [view("a", 1, "id"), view("b", 2, "id")]) == [True, False]
    assert await seen(sessions) == ["a"]


async def test_events_without_an_id_are_never_repeats(sessions: SessionStore) -> None:
    assert await append(sessions, "v", [view("a", 1), view("a", 1)]) == [True, True]
    assert await seen(sessions) == ["a", "a"]


async def test_an_id_of_another_visitor_is_no_repeat(sessions: SessionStore) -> None:
    await append(sessions, "v", [view("a", 1, "id")])
    assert await append(sessions, "w", [view("a", 1, "id")]) == [True]


async def test_an_id_is_known_for_a_day_even_when_its_event_is_not_kept(
    make_store: MakeStore, clock: Clock
) -> None:
    sessions = make_store(clock, idle_s=10 * IDEMPOTENT_S)
    await append(sessions, "v", [view("a", 1, "id")])
    await append(sessions, "v", [view(f"p{time}", time) for time in range(2, 9)])
    clock.now = IDEMPOTENT_S
    assert await append(sessions, "v", [view("a", 10, "id")]) == [False]
    assert await seen(sessions) == ["p4", "p5", "p6", "p7", "p8"]
    await sessions.close()


async def test_appending_nothing_is_fine(sessions: SessionStore) -> None:
    assert await append(sessions, "v", []) == []
    assert await seen(sessions) == []


async def test_the_visitor_heard_of_least_recently_is_forgotten_first(
    sessions: SessionStore,
) -> None:
    for visitor in ("v1", "v2", "v3", "v1", "v4"):
        await append(sessions, visitor, [view("a", 1)])
    assert await seen(sessions, "v2") == []
    assert all([await seen(sessions, visitor) for visitor in ("v1", "v3", "v4")])


async def test_an_idle_visitor_is_forgotten(sessions: SessionStore, clock: Clock) -> None:
    await append(sessions, "v", [view("a", 1, "id")])
    clock.now = IDLE_S
    assert await seen(sessions) == ["a"]
    clock.now = IDLE_S + 1
    assert await seen(sessions) == []
    assert await append(sessions, "v", [view("b", 2), view("a", 1, "id")]) == [True, True]
    assert await seen(sessions) == ["a", "b"]


async def test_a_visitor_heard_of_again_is_not_idle(sessions: SessionStore, clock: Clock) -> None:
    await append(sessions, "v", [view("a", 1)])
    clock.now = IDLE_S - 1
    await append(sessions, "v", [view("b", 2)])
    clock.now = 2 * IDLE_S - 2
    assert await seen(sessions) == ["a", "b"]


async def test_a_history_is_the_same_object_until_it_changes(sessions: SessionStore) -> None:
    await append(sessions, "v", [view("a", 1, "id")])
    history = await sessions.recent("v")
    await append(sessions, "w", [view("a", 1)])
    await append(sessions, "v", [view("a", 1, "id")])
    assert await sessions.recent("v") is history
    await append(sessions, "v", [view("b", 2)])
    assert await sessions.recent("v") is not history
    assert [event.product_id for event in history.events] == ["a"]


async def test_a_position_is_reached_where_it_was_given(sessions: SessionStore) -> None:
    positions = []
    for number in range(3):
        appended = await sessions.append("v", [view(f"p{number}", number)], timeout_s=30)
        positions.append(appended.position)
        await append(sessions, "w", [view("other", 1)])
    for position in positions:
        assert position.isascii()
        assert position.isprintable()
        assert 0 < len(position) <= 100
        history = await sessions.recent("v", position=position)
        assert [event.product_id for event in history.events] == ["p0", "p1", "p2"]


async def test_a_position_of_nothing_is_always_reached(sessions: SessionStore) -> None:
    appended = await sessions.append("v", [], timeout_s=30)
    assert await sessions.recent("v", position=appended.position) is EMPTY_HISTORY


async def test_a_position_of_a_store_that_was_lost_is_behind_with_what_is_known(
    make_store: MakeStore, clock: Clock
) -> None:
    lost, sessions = make_store(clock), make_store(clock)
    position = (await lost.append("v", [view("a", 1)], timeout_s=30)).position
    await append(sessions, "v", [view("b", 1)])
    with pytest.raises(BehaviorBehind) as behind:
        await sessions.recent("v", position=position, timeout_s=0.05)
    assert behind.value.history is await sessions.recent("v")
    await lost.close()
    await sessions.close()


async def test_a_position_of_a_visitor_who_was_forgotten_is_behind(sessions: SessionStore) -> None:
    position = (await sessions.append("v", [view("a", 1)], timeout_s=30)).position
    for visitor in ("v1", "v2", "v3"):
        await append(sessions, visitor, [view("a", 1)])
    with pytest.raises(BehaviorBehind) as behind:
        await sessions.recent("v", position=position, timeout_s=0.05)
    assert behind.value.history is EMPTY_HISTORY


@pytest.mark.parametrize("text", ["x", "1", ":", "0:1:2", "ü", "0" * 16 + ":-1", "\n"])
async def test_a_text_that_is_no_position_is_refused(sessions: SessionStore, text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        await sessions.recent("v", position=text)


def shown(event_id: str, event_time: int = 1) -> TrackedEvent:
    return TrackedEvent(
        Event(IMPRESSION, event_time), event_id, shown_product_ids=("a", "b"), experiment_ids=("x",)
    )


async def test_an_impression_is_no_behavior(sessions: SessionStore) -> None:
    await append(sessions, "v", [view("a", 1)])
    history = await sessions.recent("v")
    assert await append(sessions, "v", [shown("id")]) == [True]
    assert await sessions.recent("v") is history


async def test_an_impression_is_counted_once_by_its_id(sessions: SessionStore) -> None:
    assert await append(sessions, "v", [shown("i"), shown("i"), view("a", 1, "i")]) == [
        *(True, False, False)
    ]
    assert await append(sessions, "v", [shown("i"), view("a", 1, "i")]) == [False, False]
    await append(sessions, "v", [view("a", 1, "e")])
    assert await append(sessions, "v", [shown("e"), shown("j")]) == [False, True]
    assert await append(sessions, "w", [shown("i")]) == [True]


async def test_impressions_never_crowd_behavior_out(sessions: SessionStore) -> None:
    await append(sessions, "v", [view("a", 1, "a"), view("b", 2)])
    for number in range(2 * MAX_EVENTS * IDS_PER_EVENT):
        await append(sessions, "v", [shown(f"i{number}", 100 + number)])
    assert await seen(sessions) == ["a", "b"]
    assert await append(sessions, "v", [view("a", 1, "a")]) == [False]


async def test_closing_twice_is_fine(sessions: SessionStore) -> None:
    await sessions.close()
    await sessions.close()


appends = st.lists(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["", "", "x", "y", "z"])), max_size=6),
    max_size=8,
)


@settings(
    max_examples=80,
    deadline=None,
    # Each example makes a store and a visitor of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=appends)
async def test_any_appends_leave_what_a_plain_list_would(
    make_store: MakeStore, batches: list[list[tuple[int, str]]]
) -> None:
    sessions = make_store(Clock())
    kept: list[TrackedEvent] = []
    known: set[str] = set()
    number = 0
    for batch in batches:
        events = []
        for event_time, event_id in batch:
            number += 1
            events.append(view(f"p{number}", event_time, event_id))
        new = []
        for event in events:
            new.append(not event.event_id or event.event_id not in known)
            known.add(event.event_id)
        kept += [event for event, is_new in zip(events, new, strict=True) if is_new]
        kept = sorted(kept, key=lambda each: each.event.event_time)[-MAX_EVENTS:]
        assert await append(sessions, "v", events) == new
        assert await events_of(sessions) == [each.event for each in kept]
    await sessions.close()


async def test_memory_holds_no_more_than_its_limits() -> None:
    clock = Clock()
    sessions = InMemorySessions(max_visitors=10, max_events=3, idle_s=IDLE_S, clock=clock)
    for number in range(20):
        await append(sessions, f"v{number}", [view("a", n, f"{number} {n}") for n in range(99)])
        await append(sessions, f"v{number}", [view("b", 100)])
        await append(sessions, f"v{number}", [], f"a{number}")
    assert len(sessions._visits) == len(sessions._owners) == 10
    visits = sessions._visits.values()
    assert all((len(each.events), len(each.event_ids)) == (3, 3 * IDS_PER_EVENT) for each in visits)
    clock.now = IDLE_S + 1
    await append(sessions, "new", [view("a", 1)])
    assert list(sessions._visits) == ["new"]
    assert not sessions._owners


@pytest.mark.parametrize("name", ["max_visitors", "max_events", "idle_s"])
def test_limits_must_be_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        InMemorySessions(**{name: 0})  # type: ignore[arg-type]
