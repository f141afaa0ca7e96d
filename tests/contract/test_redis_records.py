"""What records that wait in Redis promise beyond RecordSource: whoever drains them may die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from shopintent.artifacts.event_log import LogRecord
from shopintent.server.errors import Overloaded
from shopintent.server.sessions.redis import RedisSessions
from shopintent.server.sessions.redis import records as redis_records
from support.redis_server import emptied_redis, shared_redis
from support.session_suite import KEYRING, append, seen, view

pytestmark = pytest.mark.events


def open_sessions(url: str, **options: Any) -> RedisSessions:
    return RedisSessions.open(
        url, **{"survives_power_loss": False, "pseudonyms": KEYRING, **options}
    )


@pytest.fixture
def url() -> str:
    return next(emptied_redis())


@pytest.fixture
async def stores(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[RedisSessions]]:
    """Two stores on two machines, which take each other for dead after a short time."""
    monkeypatch.setattr(redis_records, "DEAD_AFTER_S", 0.3)
    stores = [open_sessions(url, consumer=name) for name in ("one", "other")]
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with shared_redis().client() as client:
        yield client


async def track(store: RedisSessions, first: int, last: int) -> None:
    for number in range(first, last):
        await append(store, f"v{number % 40}", [view(f"p{number}", number, str(number))])


def products(records: list[LogRecord]) -> list[int]:
    return [int(each.product_id[1:]) for each in records]


async def test_records_come_in_order_from_all_partitions(stores: list[RedisSessions]) -> None:
    await track(stores[0], 0, 100)
    waiting = await stores[0].waiting()
    assert products(waiting) == list(range(100))
    assert len({each.source for each in waiting}) == 16
    assert await stores[0].waiting() == waiting
    await stores[0].logged(waiting)
    assert await stores[0].waiting() == []


async def test_a_busy_partition_fills_what_others_leave(stores: list[RedisSessions]) -> None:
    await append(stores[0], "v", [view(f"p{number}", number) for number in range(90)])
    await append(stores[0], "w", [view("p100", 1)])
    assert len(await stores[0].waiting(limit=64)) >= 60
    assert len(await stores[0].waiting(limit=1_000)) == 91


async def test_what_a_dead_drainer_had_comes_first_to_the_next(stores: list[RedisSessions]) -> None:
    dead, other = stores
    await track(dead, 0, 100)
    had = await dead.waiting(limit=50)
    await dead.logged(had[:20])
    await track(dead, 100, 150)
    taken: list[LogRecord] = []
    async with asyncio.timeout(20):
        while len(taken) < 130:
            records = await other.waiting(limit=60)
            taken += records
            await other.logged(records)
            await asyncio.sleep(0.02)
    of_sources: dict[str, list[int]] = {}
    for each in taken:
        of_sources.setdefault(each.source, []).append(each.sequence)
    assert all(numbers == sorted(numbers) for numbers in of_sources.values())
    assert sorted(products([*had[:20], *taken])) == list(range(150))
    assert await dead.waiting() == []


async def test_what_is_logged_is_gone_and_what_is_not_stays(
    stores: list[RedisSessions], client: Any
) -> None:
    store = stores[0]
    await track(store, 0, 64)
    waiting = await store.waiting()
    await store.logged(waiting[1:])
    await store.logged(waiting[1:])
    assert await store.waiting() == waiting[:1]
    await store.logged(waiting[:1])
    for key in client.keys("*:log"):
        assert client.xlen(key) == 0
    for key in client.keys("*:partition"):
        assert client.hget(key, "unlogged") == b"0"


async def test_more_than_may_wait_is_refused_until_there_is_room(url: str) -> None:
    store = open_sessions(url, max_unlogged=160)
    events = [view(f"p{number}", number, str(number)) for number in range(8)]
    assert await append(store, "v", events) == [True] * 8
    more = [view(f"p{number}", number, str(number)) for number in range(20, 23)]
    with pytest.raises(Overloaded):
        await append(store, "v", more)
    assert len(await seen(store)) == 8
    repeats = events[:3]
    assert await append(store, "v", repeats) == [False] * 3
    await store.logged(await store.waiting())
    assert await append(store, "v", more) == [True] * 3
    assert sorted(products(await store.waiting())) == [20, 21, 22]
    await store.close()


async def test_a_join_is_refused_when_its_login_cannot_wait(url: str) -> None:
    store = open_sessions(url, max_unlogged=16)
    await append(store, "anonymous", [view("a", 1)])
    await append(store, "user", [view("b", 2)])
    with pytest.raises(Overloaded):
        await append(store, "user", [], "anonymous")
    await store.logged(await store.waiting())
    await append(store, "user", [], "anonymous")
    assert await seen(store, "user") == await seen(store, "anonymous") == ["a", "b"]
    await store.close()


async def test_a_deletion_leaves_records_with_whom_they_are_and_in_order(
    stores: list[RedisSessions], client: Any
) -> None:
    """Those handed out already stay so: they are neither handed out again nor lost."""
    store, other = stores
    for number in range(60):
        await append(store, f"v{number % 2}", [view(f"p{number}", number)])
    first = await store.waiting(limit=32)
    handed_out = {(each.source, each.sequence) for each in first}
    await other.delete("v1", timeout_s=30)
    left = [each for each in first if each.shopper == KEYRING.pseudonym("v0")]
    waiting = await store.waiting(limit=10_000)
    assert [each for each in waiting if (each.source, each.sequence) in handed_out] == left
    assert products(waiting) == list(range(0, 60, 2))
    await store.logged(waiting)
    assert await store.waiting() == []
    for key in client.keys("*:partition"):
        assert int(client.hget(key, "unlogged") or 0) == 0


async def test_who_has_the_device_now_does_not_keep_the_records_of_the_deleted(
    stores: list[RedisSessions],
) -> None:
    """Until a login the events of a device are logged under its own name."""
    store = stores[0]
    await append(store, "device", [view("a", 1)])
    await append(store, "anna", [view("b", 2)], "device")
    await append(store, "bert", [view("c", 3)], "device")
    await append(store, "bystander", [view("d", 4)])
    await store.delete("anna", timeout_s=30)
    left = await store.waiting()
    assert {each.product_id for each in left} == {"", "c", "d"}
    assert {each.shopper for each in left} == {
        KEYRING.pseudonym(key) for key in ("bert", "bystander")
    }
    assert await seen(store, "device") == ["c"]


async def test_records_of_a_redis_that_was_lost_are_no_longer_waited_for(
    stores: list[RedisSessions], client: Any
) -> None:
    await track(stores[0], 0, 10)
    lost = await stores[0].waiting()
    client.flushall()
    await track(stores[0], 10, 20)
    await stores[0].logged(lost)
    waiting = await stores[0].waiting()
    assert products(waiting) == list(range(10, 20))
    assert not {each.source for each in waiting} & {each.source for each in lost}
