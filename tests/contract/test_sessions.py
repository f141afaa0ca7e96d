"""The promises of SessionStore, for every store there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopintent.behavior import Event
from shopintent.server.sessions import EMPTY_HISTORY, IDEMPOTENT_S, SessionStore, TrackedEvent
from shopintent.server.sessions.memory import IDS_PER_EVENT, InMemorySessions
from shopintent.server.sessions.sqlite import SqliteSessions

MAX_EVENTS = 5
MAX_VISITORS = 3
IDLE_S = 1_000.0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class MakeStore(Protocol):
    """Makes an empty store with the limits above."""

    def __call__(self, clock: Clock, *, idle_s: float = IDLE_S) -> SessionStore: ...


def in_memory(folder: Path) -> MakeStore:
    def make(clock: Clock, *, idle_s: float = IDLE_S) -> SessionStore:
        return InMemorySessions(
            max_visitors=MAX_VISITORS, max_events=MAX_EVENTS, idle_s=idle_s, clock=clock
        )

    return make


def in_sqlite(folder: Path) -> MakeStore:
    numbers = count()

    def make(clock: Clock, *, idle_s: float = IDLE_S) -> SessionStore:
        return SqliteSessions.open(
            folder / f"{next(numbers)}.sqlite",
            max_visitors=MAX_VISITORS,
            max_events=MAX_EVENTS,
            idle_s=idle_s,
            clock=clock,
        )

    return make


# A store joins the suite here.
@pytest.fixture(params=[pytest.param(in_memory, id="memory"), pytest.param(in_sqlite, id="sqlite")])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    make: MakeStore = request.param(tmp_path)
    return make


@pytest.fixture
async def sessions(make_store: MakeStore, clock: Clock) -> AsyncIterator[SessionStore]:
    store = make_store(clock)
    yield store
    await store.close()


def view(product_id: str, event_time: int, event_id: str = "") -> TrackedEvent:
    return TrackedEvent(Event("view-product", event_time, product_id), event_id)


async def append(sessions: SessionStore, visitor: str, events: list[TrackedEvent]) -> list[bool]:
    return (await sessions.append(visitor, events, timeout_s=10)).new


async def events_of(sessions: SessionStore, visitor: str = "v") -> list[Event]:
    return list((await sessions.recent(visitor)).events)


async def seen(sessions: SessionStore, visitor: str = "v") -> list[str]:
    return [event.product_id for event in await events_of(sessions, visitor)]


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
    assert len(sessions._visits) == 10
    visits = sessions._visits.values()
    assert all((len(each.events), len(each.event_ids)) == (3, 3 * IDS_PER_EVENT) for each in visits)
    clock.now = IDLE_S + 1
    await append(sessions, "new", [view("a", 1)])
    assert list(sessions._visits) == ["new"]


@pytest.mark.parametrize("name", ["max_visitors", "max_events", "idle_s"])
def test_limits_must_be_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        InMemorySessions(**{name: 0})  # type: ignore[arg-type]
