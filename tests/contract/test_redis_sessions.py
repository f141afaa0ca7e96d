"""What sessions in Redis promise beyond SessionStore: they are shared, bounded and safe."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shopintent.behavior import Event
from shopintent.server.errors import StateUnavailable
from shopintent.server.sessions import EMPTY_HISTORY, BehaviorBehind, TrackedEvent
from shopintent.server.sessions.limits import IDS_PER_EVENT
from shopintent.server.sessions.redis import RedisSessions, link
from shopintent.server.sessions.redis.link import RedisLink
from support.certificates import make_certificate
from support.redis_server import emptied_redis, free_port, redis_server, shared_redis
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
def client(url: str) -> Iterator[redis.Redis]:
    with shared_redis().client() as client:
        yield client


@pytest.fixture
async def stores(url: str) -> AsyncIterator[list[RedisSessions]]:
    """Two stores that share nothing but Redis, as two servers do."""
    stores = [open_sessions(url), open_sessions(url)]
    yield stores
    for store in stores:
        await store.close()


async def test_what_one_server_acknowledged_the_others_see(stores: list[RedisSessions]) -> None:
    for number in range(300):
        writer, reader = random.sample(stores, 2)
        tracked = view(f"p{number}", number, str(number))
        appended = await writer.append(f"v{number % 3}", [tracked], timeout_s=10)
        history = await reader.recent(f"v{number % 3}", position=appended.position)
        assert history.events[-1].product_id == f"p{number}"
        assert await append(reader, f"v{number % 3}", [tracked]) == [False]


async def test_events_of_many_servers_at_once_count_once_each(stores: list[RedisSessions]) -> None:
    calls = [
        append(store, "v", [view(f"p{number}", number, str(number)) for number in (n, n + 1)])
        for n in range(100)
        for store in stores
    ]
    random.shuffle(calls)
    answers = await asyncio.gather(*calls)
    assert sum(map(sum, answers)) == 101
    for store in stores:
        assert await seen(store) == [f"p{number}" for number in range(101)]


async def test_a_history_is_read_in_parts_and_whole_alike(stores: list[RedisSessions]) -> None:
    """One server sees every change, one every third, one all at once."""
    follower, late = stores
    for number in range(60):
        event_time = random.randrange(20)
        await append(follower, "v", [view(f"p{number}", event_time)])
        if number % 3 == 0:
            assert (await late.recent("v")).events == (await follower.recent("v")).events
    assert (await late.recent("v")).events == (await follower.recent("v")).events


async def test_a_visitor_who_was_deleted_elsewhere_is_not_remembered_here(
    stores: list[RedisSessions],
) -> None:
    here, elsewhere = stores
    await append(here, "user", [view("a", 1)], "anonymous")
    await append(here, "anonymous", [view("b", 2)])
    assert await seen(here, "anonymous") == ["a", "b"]
    await elsewhere.delete("user", timeout_s=30)
    assert await here.recent("anonymous") is EMPTY_HISTORY
    later = view("c", 4_000_000_000)
    assert await append(here, "anonymous", [view("late", 3), later]) == [False, True]
    assert await seen(here, "anonymous") == await seen(elsewhere, "anonymous") == ["c"]
    assert await seen(here, "user") == []


async def test_a_call_costs_one_round_trip(stores: list[RedisSessions], client: Any) -> None:
    store, other = stores
    await append(store, "user", [view("a", 1)], "anonymous")
    await other.recent("user")
    await other.recent("anonymous")

    async def calls(work: Any) -> int:
        client.config_resetstat()
        await work
        told = client.info("commandstats")
        return int(told["cmdstat_evalsha"]["calls"])

    assert await calls(store.append("user", [view("b", 2)], timeout_s=10)) == 1
    assert await calls(store.append("user", [], timeout_s=10, alias="anonymous")) == 1
    assert await calls(store.append("anonymous", [view("c", 3)], timeout_s=10)) == 1
    assert await calls(other.recent("user")) == 1
    assert await calls(other.recent("anonymous")) == 1


async def test_many_calls_at_once_go_over_few_connections(
    stores: list[RedisSessions], client: Any
) -> None:
    await asyncio.gather(
        *(append(stores[0], f"v{number}", [view("a", 1)]) for number in range(500))
    )
    assert len(client.client_list()) < 40


async def test_no_call_is_left_waiting_when_a_group_ends(
    stores: list[RedisSessions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "MAX_GROUPS", 1)

    for number in range(20):
        await stores[0].append("v", [view("a", number)], timeout_s=5)


async def test_scripts_are_sent_again_when_redis_forgot_them(
    stores: list[RedisSessions], client: redis.Redis
) -> None:
    await append(stores[0], "v", [view("a", 1)])
    client.script_flush()
    assert await append(stores[0], "v", [view("b", 2)]) == [True]
    assert await seen(stores[1]) == ["a", "b"]


async def test_a_bad_event_does_not_fail_its_neighbors(stores: list[RedisSessions]) -> None:
    answers = await asyncio.gather(
        append(stores[0], "v", [view("a", 1)]),
        append(stores[0], "v", [view("b", 2), view("\ud800", 3)]),
        append(stores[0], "w", [view("c", 1)]),
        return_exceptions=True,
    )
    assert isinstance(answers[1], UnicodeEncodeError)
    assert (answers[0], answers[2]) == ([True], [True])
    assert await seen(stores[0]) == ["a"]


async def test_positions_and_what_was_held_are_void_when_redis_lost_everything(
    stores: list[RedisSessions], client: redis.Redis
) -> None:
    store, other = stores
    position = (await store.append("v", [view("a", 1, "id")], timeout_s=10)).position
    await other.recent("v")
    client.flushall()
    with pytest.raises(BehaviorBehind):
        await store.recent("v", position=position, timeout_s=30)
    assert await append(store, "v", [view("b", 2), view("a", 1, "id")]) == [True, True]
    with pytest.raises(BehaviorBehind) as behind:
        await other.recent("v", position=position, timeout_s=30)
    assert [event.product_id for event in behind.value.history.events] == ["a", "b"]


async def test_a_position_of_a_join_under_way_is_waited_for(stores: list[RedisSessions]) -> None:
    store, other = stores
    position = (await store.append("anonymous", [view("a", 1)], timeout_s=10)).position
    reading = asyncio.create_task(other.recent("user", position=position, timeout_s=10))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await append(store, "user", [], "anonymous")
    assert (await reading).product_ids == {"a"}


async def test_a_join_that_was_cut_short_is_brought_to_its_end(
    stores: list[RedisSessions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever step the server died before, and whoever comes by next."""
    dying, other = stores
    run = RedisLink.run
    for last in ("arrive", "left"):
        for comes_by in ("anonymous", "user"):
            anonymous, user = f"{last}-{comes_by}-anonymous", f"{last}-{comes_by}-user"
            await append(other, anonymous, [view("a", 1, "a")])
            await append(other, user, [view("b", 2)])

            async def die(self: RedisLink, name: str, *args: Any, **options: Any) -> Any:
                if name == last:  # noqa: B023 - it is called within the round.
                    raise StateUnavailable("sessions", "died")
                return await run(self, name, *args, **options)

            with monkeypatch.context() as patched:
                patched.setattr(RedisLink, "run", die)
                with pytest.raises(StateUnavailable, match="died"):
                    await append(dying, user, [view("c", 3)], anonymous)
            if comes_by == "anonymous":
                assert await append(other, anonymous, [view("a", 1, "a")]) == [False]
            else:
                assert await append(other, user, [view("a", 1, "a")], anonymous) == [False]
            assert await seen(other, user) == await seen(other, anonymous) == ["a", "b"]


async def test_two_servers_join_at_once(stores: list[RedisSessions]) -> None:
    for number in range(20):
        anonymous, user = f"anonymous-{number}", f"user-{number}"
        await append(stores[0], anonymous, [view("a", 1, "a")])
        answers = await asyncio.gather(
            *(append(store, user, [view("b", 2, "b")], anonymous) for store in stores),
            *(append(store, anonymous, [view("c", 3, "c")]) for store in stores),
        )
        assert sum(map(sum, answers)) == 2
        for store in stores:
            assert await seen(store, user) == await seen(store, anonymous) == ["a", "b", "c"]


async def test_what_is_held_of_a_visitor_is_bounded(url: str, client: Any) -> None:
    store = open_sessions(url, max_events=5, pseudonyms=None)
    for number in range(300):
        event_ids = [f"{number}-{part}-{'long' * 20}" for part in range(2)]
        await append(store, "v", [view("p", number, event_ids[0])])
        await store.append(
            "v", [TrackedEvent(Event("impression", number), event_ids[1])], timeout_s=10
        )
    kinds = {"events": 5, "ids": 5 * IDS_PER_EVENT, "shown": 5 * IDS_PER_EVENT}
    for kind, most in kinds.items():
        [key] = client.keys(f"*:{kind}:v")
        assert client.zcard(key) == most
    assert client.memory_usage(client.keys("*:ids:v")[0]) < 20_000
    await store.close()


async def test_visitors_beyond_the_limit_are_forgotten_whole(url: str, client: redis.Redis) -> None:
    store = open_sessions(url, max_visitors=160, pseudonyms=None)
    for number in range(1_000):
        await append(store, f"v{number}", [view("a", 1, "id")])
    assert len(client.keys("*:visitor:*")) <= 160
    assert len(client.keys("*:events:*")) == len(client.keys("*:ids:*")) <= 160
    assert await seen(store, "v999") == ["a"]
    assert await seen(store, "v0") == []
    await store.close()


async def test_keys_go_by_themselves_when_a_visitor_does_not_come_back(
    url: str, client: redis.Redis
) -> None:
    store = open_sessions(url, idle_s=1_000)
    await append(store, "user", [view("a", 1, "id")], "anonymous")
    for kind in ("visitor", "events", "ids"):
        for key in client.keys(f"*:{kind}:*"):
            assert 1_000 <= client.ttl(key) <= 1_100
    await store.close()


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_files_hold_no_byte_of_a_deleted_visitor(tmp_path: Path) -> None:
    """Not of records that waited for the event log, either, nor in a snapshot."""
    with redis_server(tmp_path, "--save", "3600 1", "--rdbcompression", "no") as server:
        store = open_sessions(server.url)
        keys = ["user:anna-of-the-test", "visitor:anna-of-the-test"]
        for number in range(300):
            await append(store, f"visitor:{number}", [view("p", number)])
            await append(store, keys[1], [view("q", number, str(number))])
        await append(store, keys[0], [view("r", 1)], keys[1])
        with server.client() as client:
            client.save()
        names = [*keys, *(name for key in keys for name in KEYRING.pseudonyms(key)[:1])]
        before = bytes_of(tmp_path)
        assert all(name.encode() in before for name in names)
        deleted = await store.delete(keys[1], timeout_s=60)
        assert set(deleted.visitors) == set(keys)
        after = bytes_of(tmp_path)
        assert not [name for name in names if name.encode() in after]
        waiting = await store.waiting(limit=100_000)
        assert len(waiting) == 300
        assert await seen(store, "visitor:7") == ["p"]
        await store.close()


async def test_find_takes_no_longer_id_for_a_shorter_one(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        store = open_sessions(server.url)
        await append(store, "user:123", [view("a", 1)])
        assert (await store.find("user:12", timeout_s=30)).event_count == 0
        assert (await store.find("user:123", timeout_s=30)).event_count > 0
        await store.close()


async def test_a_deletion_fails_where_files_cannot_be_written_anew(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--rename-command", "BGREWRITEAOF", "") as server:
        store = open_sessions(server.url)
        await append(store, "v", [view("a", 1)])
        with pytest.raises(StateUnavailable, match="BGREWRITEAOF was refused"):
            await store.delete("v", timeout_s=30)
        await store.close()


UNSAFE = {
    "nothing on the disk": (["--appendonly", "no"], False, "set appendonly to yes"),
    "never flushed": (["--appendfsync", "no"], False, "appendfsync is no"),
    "not flushed at once": (["--appendfsync", "everysec"], True, "DURABILITY=process"),
    "may drop keys": (
        ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
        False,
        "set it to noeviction",
    ),
}


@pytest.mark.parametrize("name", UNSAFE)
async def test_nothing_is_tracked_into_a_redis_that_may_lose_it(tmp_path: Path, name: str) -> None:
    settings, survives_power_loss, remedy = UNSAFE[name]
    with redis_server(tmp_path, *settings) as server:
        store = open_sessions(server.url, survives_power_loss=survives_power_loss)
        with pytest.raises(StateUnavailable, match=remedy):
            await append(store, "v", [view("a", 1)])
        with server.client() as client:
            assert client.dbsize() == 0
            for setting in ("appendonly yes", "appendfsync always", "maxmemory-policy noeviction"):
                client.config_set(*setting.split())
        assert await append(store, "v", [view("a", 1)]) == [True]
        await store.close()


async def test_a_redis_that_tells_no_settings_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path, "--rename-command", "CONFIG", "") as server:
        store = open_sessions(server.url)
        assert await append(store, "v", [view("a", 1)]) == [True]
        assert "does not tell its settings" in caplog.text
        await store.close()


async def test_a_password_is_needed_where_one_is_set_and_told_nobody(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "hush-hush") as server:
        for password, works in (("hush-hush", True), ("wrong-word", False), (None, False)):
            store = open_sessions(server.url, password=password)
            if works:
                assert await append(store, "v", [view("a", 1)]) == [True]
            else:
                with pytest.raises(StateUnavailable) as failure:
                    await append(store, "v", [view("a", 1)])
                assert "wrong-word" not in str(failure.value)
            await store.close()


async def test_tls_is_spoken_with_a_redis_that_is_who_it_says(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    tls = [
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
    ]
    with redis_server(tmp_path / "redis", *tls):
        url = f"rediss://127.0.0.1:{port}/0"
        store = open_sessions(f"{url}?ssl_ca_certs={certificate}")
        assert await append(store, "v", [view("a", 1)]) == [True]
        await store.close()
        store = open_sessions(url)
        with pytest.raises(StateUnavailable, match="certificate"):
            await append(store, "v", [view("a", 1)])
        await store.close()


async def test_an_event_is_not_acknowledged_before_its_replicas_have_it(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "primary") as primary,
        redis_server(tmp_path / "replica") as replica,
        replica.client() as client,
    ):
        store = open_sessions(primary.url, replicas=1)
        with pytest.raises(StateUnavailable, match="0 of 1 replicas"):
            await append(store, "v", [view("a", 1, "id")])
        client.replicaof("127.0.0.1", str(primary.port))
        await _until_synced(client)
        assert await append(store, "v", [view("b", 1)]) == [True]
        [key] = client.keys("*:events:v")
        assert client.zcard(key) == 2
        await store.close()


async def _until_synced(client: Any) -> None:
    async with asyncio.timeout(20):
        while client.info("replication")["master_link_status"] != "up":  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", ["max_visitors", "max_events", "idle_s"])
async def test_limits_must_be_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        open_sessions("redis://127.0.0.1:1", **{name: 0})


async def test_a_url_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="redis://"):
        open_sessions("http://127.0.0.1:1")
