"""The promises of RecordSource, for every store whose events become records of the event log."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shopintent.artifacts.event_log import IMPRESSION, LOGIN, LogRecord
from shopintent.behavior import Event
from shopintent.server.sessions import SessionStore, TrackedEvent
from support.session_suite import (
    KEYRING,
    Clock,
    LoggedStore,
    append,
    view,
)

pytestmark = pytest.mark.events

NOW = 1_000_000.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


def by_shopper(records: Sequence[LogRecord]) -> dict[str, list[str]]:
    """Returns the products of each shopper's records, oldest first."""
    found: dict[str, list[str]] = {}
    for each in sorted(records, key=lambda each: each.received_at):
        found.setdefault(each.shopper, []).append(each.product_id)
    return found


async def waiting_of(sessions: LoggedStore) -> list[LogRecord]:
    return list(await sessions.waiting())


async def test_an_event_becomes_a_record_with_everything_that_was_told(
    logged_sessions: LoggedStore,
) -> None:
    search = Event("search", 5, search_query='a\0b 🪑 "q"')
    bought = Event("purchase", 6, product_id="p", quantity=3)
    browsed = Event("view-category", 7, category="Garden > Стулья")
    sent = [
        TrackedEvent(search, "id-1", "token", ("x/1", "y/2")),
        TrackedEvent(bought),
        TrackedEvent(browsed, "id-3"),
    ]
    await append(logged_sessions, "visitor:v", sent)
    records = await waiting_of(logged_sessions)
    shopper = KEYRING.pseudonym("visitor:v")
    assert shopper.startswith("k2-")
    assert {(each.received_at, each.shopper) for each in records} == {(NOW, shopper)}
    told = [
        (
            Event(
                each.event_type,
                each.event_time,
                each.product_id,
                each.category,
                each.search_query,
                each.quantity,
            ),
            *(each.event_id, each.attribution_token, each.experiment_ids),
        )
        for each in records
    ]
    assert told == [
        (search, "id-1", "token", ("x/1", "y/2")),
        (bought, "", "", ()),
        (browsed, "id-3", "", ()),
    ]
    assert {(each.shown_product_ids, each.alias) for each in records} == {((), "")}


async def test_an_impression_becomes_a_record(logged_sessions: LoggedStore) -> None:
    shown = TrackedEvent(
        Event(IMPRESSION, 5), "i", "token", ("x",), shown_product_ids=("b", "a", "b")
    )
    await append(logged_sessions, "visitor:v", [shown])
    [record] = await waiting_of(logged_sessions)
    assert (record.event_type, record.event_time, record.event_id) == (IMPRESSION, 5, "i")
    assert (record.attribution_token, record.experiment_ids) == ("token", ("x",))
    assert record.shown_product_ids == ("b", "a", "b")


async def test_repeats_become_no_records(logged_sessions: LoggedStore) -> None:
    shown = TrackedEvent(Event(IMPRESSION, 5), "i", shown_product_ids=("a",))
    for _ in range(2):
        await append(logged_sessions, "visitor:v", [view("a", 1, "e"), shown, view("a", 1, "e")])
    assert [each.event_id for each in await waiting_of(logged_sessions)] == ["e", "i"]


async def test_a_login_becomes_a_record_and_later_ones_name_the_shopper(
    logged_sessions: LoggedStore, clock: Clock
) -> None:
    await append(logged_sessions, "visitor:v", [view("a", 1)])
    clock.now += 1
    await append(logged_sessions, "user:u", [], "visitor:v")
    clock.now += 1
    await append(logged_sessions, "visitor:v", [view("b", 2)])
    clock.now += 1
    await append(logged_sessions, "user:u", [view("c", 3)], "visitor:v")
    records = sorted(await waiting_of(logged_sessions), key=lambda each: each.received_at)
    anonymous, shopper = KEYRING.pseudonym("visitor:v"), KEYRING.pseudonym("user:u")
    assert [(each.event_type, each.shopper, each.alias) for each in records] == [
        ("view-product", anonymous, ""),
        (LOGIN, shopper, anonymous),
        ("view-product", shopper, ""),
        ("view-product", shopper, ""),
    ]
    assert records[1].event_time == int(NOW) + 1


async def test_records_of_a_source_are_numbered_in_order(
    logged_sessions: LoggedStore,
) -> None:
    for number in range(20):
        await append(logged_sessions, f"visitor:{number % 4}", [view(f"p{number}", number)])
    records = await waiting_of(logged_sessions)
    assert len({(each.source, each.sequence) for each in records}) == 20
    for source in {each.source for each in records}:
        numbers = [each.sequence for each in records if each.source == source]
        assert numbers == sorted(numbers)
    assert [each.product_id for each in sorted(records, key=lambda each: each.event_time)] == [
        f"p{number}" for number in range(20)
    ]


async def test_what_is_logged_waits_no_more(logged_sessions: LoggedStore) -> None:
    await append(logged_sessions, "visitor:v", [view(f"p{number}", number) for number in range(5)])
    first = await logged_sessions.waiting(limit=2)
    assert len(first) == 2
    await logged_sessions.logged(first)
    rest = await waiting_of(logged_sessions)
    assert [each.product_id for each in rest] == ["p2", "p3", "p4"]
    assert await waiting_of(logged_sessions) == rest
    await logged_sessions.logged(rest)
    await logged_sessions.logged([])
    assert await waiting_of(logged_sessions) == []


async def test_any_number_of_records_is_read_once_and_in_order(
    logged_sessions: LoggedStore,
) -> None:
    for start in range(0, 1_200, 100):
        events = [view(f"p{number}", number) for number in range(start, start + 100)]
        await append(logged_sessions, "visitor:v", events)
    read: list[LogRecord] = []
    while records := await logged_sessions.waiting(limit=700):
        assert len(records) <= 700
        await logged_sessions.logged(records)
        read += records
    assert [each.product_id for each in read] == [f"p{number}" for number in range(1_200)]


async def track_anna_and_bert(sessions: SessionStore) -> None:
    shown = TrackedEvent(Event(IMPRESSION, 3), "i", shown_product_ids=("x",))
    await append(sessions, "visitor:anna", [view("a", 1), shown])
    await append(sessions, "user:anna", [view("b", 2)], "visitor:anna")
    await append(sessions, "visitor:bert", [view("c", 3)])


@pytest.mark.parametrize("key", ["user:anna", "visitor:anna"])
async def test_records_of_the_deleted_wait_no_more(logged_sessions: LoggedStore, key: str) -> None:
    await track_anna_and_bert(logged_sessions)
    assert (await logged_sessions.find(key, timeout_s=30)).event_count > 0
    await logged_sessions.delete(key, timeout_s=30)
    assert by_shopper(await waiting_of(logged_sessions)) == {
        KEYRING.pseudonym("visitor:bert"): ["c"]
    }
    for each in ("user:anna", "visitor:anna"):
        found = await logged_sessions.find(each, timeout_s=30)
        assert (found.event_count, found.link_count) == (0, 0)


async def test_the_feed_counts_the_deleted_to_zero_all_the_same(
    logged_sessions: LoggedStore,
) -> None:
    position = await logged_sessions.newest()
    await track_anna_and_bert(logged_sessions)
    await logged_sessions.delete("user:anna", timeout_s=30)
    counts: dict[str, int] = {}
    for each in (await logged_sessions.since(position)).events:
        counts[each.product_id] = counts.get(each.product_id, 0) + each.weight
    assert counts == {"a": 0, "b": 0, "c": 1}
