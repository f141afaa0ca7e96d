"""Sessions in a Redis Cluster of three servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from shopintent.server.errors import StateUnavailable
from shopintent.server.sessions.redis import RedisSessions
from shopintent.server.sessions.redis.link import RedisLink
from support.redis_server import RedisServer, redis_cluster
from support.session_suite import KEYRING, append, seen, view

pytestmark = pytest.mark.events


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


def open_sessions(cluster: list[RedisServer]) -> RedisSessions:
    return RedisSessions.open(
        cluster[0].url, is_cluster=True, survives_power_loss=False, pseudonyms=KEYRING
    )


def sizes(cluster: list[RedisServer], pattern: str = "*") -> list[int]:
    found = []
    for server in cluster:
        with server.client() as client:
            found.append(sum(1 for _ in client.scan_iter(pattern)))
    return found


async def test_a_cluster_keeps_every_promise_of_a_visit(cluster: list[RedisServer]) -> None:
    store, other = open_sessions(cluster), open_sessions(cluster)
    feed = await other.newest()
    for number in range(60):
        keys = f"anonymous-{number}", f"user-{number}"
        first = await store.append(keys[0], [view("a", 1, "a")], timeout_s=10)
        await append(other, keys[1], [view("b", 2, "b")])
        again = await store.append(keys[1], [view("a", 1, "a")], timeout_s=10, alias=keys[0])
        assert again.new == [False]
        for key in keys:
            for position in (first.position, again.position):
                history = await other.recent(key, position=position)
                assert [event.product_id for event in history.events] == ["a", "b"]
    assert all(size > 10 for size in sizes(cluster, "*:visitor:*"))
    assert len((await other.since(feed)).events) == 120
    waiting = await other.waiting()
    assert len(waiting) == 180
    await other.logged(waiting)
    assert await store.waiting() == []
    deleted = await store.delete("anonymous-7", timeout_s=60)
    assert set(deleted.visitors) == {"anonymous-7", "user-7"}
    for key in deleted.visitors:
        assert await seen(other, key) == []
        assert (await other.find(key, timeout_s=60)).event_count == 0
    assert (await other.find("anonymous-8", timeout_s=60)).event_count > 0
    for each in (store, other):
        await each.close()


async def test_all_keys_of_a_script_are_in_one_slot(
    cluster: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, set[int]] = {}
    run = RedisLink.run
    with cluster[0].client() as client:

        async def watched(
            self: RedisLink, name: str, keys: list[str], *args: Any, **options: Any
        ) -> Any:
            slots = {client.execute_command("CLUSTER KEYSLOT", key) for key in keys}
            assert len(slots) == 1, (name, keys)
            called.setdefault(name, set()).update(slots)
            return await run(self, name, keys, *args, **options)

        monkeypatch.setattr(RedisLink, "run", watched)
        store = open_sessions(cluster)
        for number in range(30):
            await append(store, f"w{number}", [view("a", 1, "a")])
            await append(store, "a-user", [view("a", 1)], f"w{number}")
            await append(store, "another", [], f"w{number}")
        await store.recent("another")
        await store.logged(await store.waiting())
        await store.delete("another", timeout_s=60)
        await store.close()
    written = {"append", "leave", "arrive", "left", "part", "recent", "waiting", "logged", "erase"}
    assert written <= set(called)
    assert len(called["append"]) > 8


async def test_a_server_that_dies_fails_its_visitors_and_comes_back(
    cluster: list[RedisServer],
) -> None:
    store = open_sessions(cluster)
    visitors = [f"x{number}" for number in range(40)]
    await asyncio.gather(*(append(store, visitor, [view("a", 1, "a")]) for visitor in visitors))
    cluster[1].kill()

    async def work(visitor: str) -> bool:
        try:
            await store.append(visitor, [view("b", 2, "b")], timeout_s=2)
        except StateUnavailable:
            return False
        return True

    async with asyncio.timeout(30):
        while all([await work(visitor) for visitor in visitors]):
            pass
    await asyncio.to_thread(cluster[1].start)
    async with asyncio.timeout(60):
        while not all([await work(visitor) for visitor in visitors]):
            pass
    for visitor in visitors:
        assert await seen(store, visitor) == ["a", "b"]
    await store.close()
