"""The promises of SessionStore about anonymous visitors who log in, for every store there is."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopintent.server.sessions import EMPTY_HISTORY, TrackedEvent
from shopintent.server.sessions.limits import MAX_ALIASES
from support.session_suite import IDLE_S, MAX_EVENTS, Clock, MakeStore, Store, append, seen, view

pytestmark = pytest.mark.events


async def test_what_an_anonymous_visitor_did_joins_what_the_shopper_did(sessions: Store) -> None:
    await append(sessions, "anonymous", [view("a", 10), view("c", 30)])
    await append(sessions, "user", [view("b", 20)])
    await append(sessions, "user", [view("d", 40)], "anonymous")
    for key in ("user", "anonymous"):
        assert await seen(sessions, key) == ["a", "b", "c", "d"]


async def test_a_shopper_never_heard_of_takes_over_what_the_anonymous_visitor_did(
    sessions: Store,
) -> None:
    await append(sessions, "anonymous", [view("a", 10)])
    await append(sessions, "user", [view("b", 20)], "anonymous")
    assert await seen(sessions, "user") == ["a", "b"]


async def test_a_join_needs_no_event(sessions: Store) -> None:
    await append(sessions, "anonymous", [view("a", 10)])
    assert await append(sessions, "user", [], "anonymous") == []
    assert await seen(sessions, "user") == ["a"]


async def test_from_a_join_on_either_key_tracks_and_reads_the_same(sessions: Store) -> None:
    await append(sessions, "user", [], "anonymous")
    await append(sessions, "anonymous", [view("a", 1)])
    await append(sessions, "user", [view("b", 2)])
    assert await seen(sessions, "user") == ["a", "b"]
    assert await sessions.recent("anonymous") is await sessions.recent("user")


async def test_of_one_time_the_shoppers_own_events_come_first(sessions: Store) -> None:
    await append(sessions, "anonymous", [view("c", 10), view("d", 10)])
    await append(sessions, "user", [view("a", 10), view("b", 10)])
    await append(sessions, "user", [view("e", 10)], "anonymous")
    assert await seen(sessions, "user") == ["a", "b", "c", "d", "e"]


async def test_ids_stay_known_across_a_join(sessions: Store) -> None:
    """A client that was not answered may send again what it did before, under either key."""
    await append(sessions, "anonymous", [view("a", 10, "a")])
    await append(sessions, "user", [view("b", 20, "b")])
    again = [view("a", 10, "a"), view("b", 20, "b")]
    assert await append(sessions, "user", again, "anonymous") == [False, False]
    assert await append(sessions, "anonymous", again) == [False, False]
    assert await seen(sessions, "user") == ["a", "b"]


async def test_an_id_that_both_have_counts_once(sessions: Store) -> None:
    await append(sessions, "anonymous", [view("a", 10, "id"), view("c", 30, "other")])
    await append(sessions, "user", [view("b", 20, "id")])
    await append(sessions, "user", [], "anonymous")
    assert await seen(sessions, "user") == ["b", "c"]


async def test_a_join_keeps_no_more_events_than_the_limit(sessions: Store) -> None:
    await append(sessions, "anonymous", [view(f"p{time}", time) for time in range(0, 10, 2)])
    await append(sessions, "user", [view(f"p{time}", time) for time in range(1, 10, 2)])
    await append(sessions, "user", [], "anonymous")
    assert await seen(sessions, "user") == ["p5", "p6", "p7", "p8", "p9"]


async def test_a_join_counts_one_visitor_less(sessions: Store) -> None:
    for key in ("first", "anonymous", "user"):
        await append(sessions, key, [view("a", 1)])
    await append(sessions, "user", [], "anonymous")
    await append(sessions, "last", [view("a", 1)])
    assert await seen(sessions, "first") == ["a"]


async def test_devices_of_one_shopper_are_one_visitor(sessions: Store) -> None:
    for number, device in enumerate(["phone", "laptop", "phone"]):
        await append(sessions, device, [view(f"p{number}", number)])
        await append(sessions, "user", [], device)
    for key in ("user", "phone", "laptop"):
        assert await seen(sessions, key) == ["p0", "p1", "p2"]


async def test_another_shopper_on_the_device_gets_what_is_done_from_there_on(
    sessions: Store,
) -> None:
    await append(sessions, "device", [view("a", 1)])
    await append(sessions, "anna", [view("b", 2)], "device")
    await append(sessions, "bert", [view("c", 3)], "device")
    await append(sessions, "device", [view("d", 4)])
    assert await seen(sessions, "anna") == ["a", "b"]
    assert await seen(sessions, "bert") == await seen(sessions, "device") == ["c", "d"]


async def test_joining_again_changes_nothing(sessions: Store) -> None:
    await append(sessions, "anonymous", [view("a", 1)])
    await append(sessions, "user", [view("b", 2, "id")], "anonymous")
    history = await sessions.recent("user")
    await append(sessions, "user", [view("b", 2, "id")], "anonymous")
    await append(sessions, "user", [], "anonymous")
    assert await sessions.recent("user") is history


@pytest.mark.parametrize("alias", ["user", ""])
async def test_an_alias_that_is_the_key_itself_or_none_joins_nothing(
    sessions: Store, alias: str
) -> None:
    assert await append(sessions, "user", [view("a", 1)], alias) == [True]
    assert (await sessions.find("user", timeout_s=30)).link_count == 0


async def test_who_joined_a_visitor_before_goes_along(sessions: Store) -> None:
    await append(sessions, "session", [view("a", 1)])
    await append(sessions, "visitor", [view("b", 2)], "session")
    await append(sessions, "user", [view("c", 3)], "visitor")
    for key in ("session", "visitor", "user"):
        assert await seen(sessions, key) == ["a", "b", "c"]


async def test_a_position_holds_across_a_join(sessions: Store) -> None:
    before = (await sessions.append("anonymous", [view("a", 1)], timeout_s=30)).position
    joined = (await sessions.append("user", [], timeout_s=30, alias="anonymous")).position
    for key in ("anonymous", "user"):
        for position in (before, joined):
            assert (await sessions.recent(key, position=position)).product_ids == {"a"}


async def test_only_the_newest_aliases_stay_joined(sessions: Store, clock: Clock) -> None:
    for number in range(MAX_ALIASES + 1):
        clock.now += 1
        await append(sessions, "user", [view("a", 1, "id")], f"cookie {number}")
    assert await sessions.recent("cookie 0") is EMPTY_HISTORY
    assert await seen(sessions, "cookie 1") == ["a"]
    assert (await sessions.find("user", timeout_s=30)).link_count == MAX_ALIASES


async def test_aliases_are_forgotten_with_their_visitor(sessions: Store, clock: Clock) -> None:
    await append(sessions, "user", [view("a", 1)], "anonymous")
    clock.now = IDLE_S + 1
    assert await sessions.recent("anonymous") is EMPTY_HISTORY
    await append(sessions, "anonymous", [view("b", 2)])
    assert await seen(sessions, "anonymous") == ["b"]
    assert await seen(sessions, "user") == []


async def test_an_idle_anonymous_visitor_joins_without_what_they_did(
    sessions: Store, clock: Clock
) -> None:
    await append(sessions, "anonymous", [view("a", 1)])
    clock.now = IDLE_S + 1
    await append(sessions, "user", [view("b", 2)], "anonymous")
    assert await seen(sessions, "anonymous") == await seen(sessions, "user") == ["b"]


@dataclass
class Plain:
    """What a store should be, written as plainly as can be."""

    owners: dict[str, str] = field(default_factory=dict)
    events: dict[str, list[TrackedEvent]] = field(default_factory=dict)

    def join(self, visitor: str, alias: str) -> None:
        visitor = self.owners.get(visitor, visitor)
        if self.owners.get(alias, alias) == visitor:
            return
        own = self.events.pop(alias, [])
        mine = self.events.setdefault(visitor, [])
        known = {each.event_id for each in mine if each.event_id}
        mine += [each for each in own if each.event_id not in known]
        self.owners |= {key: visitor for key, owner in self.owners.items() if owner == alias}
        self.owners[alias] = visitor

    def append(self, visitor: str, events: list[TrackedEvent], alias: str) -> list[bool]:
        if alias:
            self.join(visitor, alias)
        held = self.events.setdefault(self.owners.get(visitor, visitor), [])
        new = []
        for event in events:
            known = {each.event_id for each in held if each.event_id}
            new.append(event.event_id not in known)
            held += [event] * new[-1]
        return new

    def seen(self, key: str) -> list[str]:
        held = self.events.get(self.owners.get(key, key), [])
        # What joined comes behind what was there when the times are equal, as appended events do.
        held.sort(key=lambda each: each.event.event_time)
        return [each.event.product_id for each in held]


KEYS = ("v1", "v2", "v3")
calls = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", *KEYS]),
        st.sampled_from(["", *KEYS]),
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["", "x", "y", "z"])), max_size=4),
    ),
    max_size=10,
)


@settings(
    max_examples=60,
    deadline=None,
    # Each example makes a store of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(calls=calls)
async def test_any_joins_leave_what_plain_lists_would(
    make_store: MakeStore, calls: list[tuple[str, str, list[tuple[int, str]]]]
) -> None:
    sessions = make_store(Clock(), max_visitors=10, max_events=50)
    plain = Plain()
    number = 0
    for visitor, alias, shape in calls:
        events = []
        for event_time, event_id in shape:
            number += 1
            events.append(view(f"p{number}", event_time, event_id))
        assert await append(sessions, visitor, events, alias) == plain.append(
            visitor, events, alias
        )
        for key in ("u1", "u2", *KEYS):
            assert await seen(sessions, key) == plain.seen(key)
    await sessions.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=calls)
async def test_any_joins_keep_the_newest_events_by_time(
    make_store: MakeStore, calls: list[tuple[str, str, list[tuple[int, str]]]]
) -> None:
    sessions = make_store(Clock(), max_visitors=10)
    plain = Plain()
    for number, (visitor, alias, shape) in enumerate(calls):
        # No two events of a time: which of those falls out is anybody's guess.
        times = [100 * time + 10 * number + n for n, (time, _) in enumerate(shape)]
        events = [view(f"p{time}", time) for time in times]
        await append(sessions, visitor, events, alias)
        plain.append(visitor, events, alias)
        for key in ("u1", "u2", *KEYS):
            assert await seen(sessions, key) == plain.seen(key)[-MAX_EVENTS:]
    await sessions.close()
