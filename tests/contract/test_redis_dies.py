"""Redis dies, hangs or is lost under the sessions. SHOPINTENT_LONG_TESTS=1 kills it 50 times."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest

from shopintent.artifacts.event_log import LogRecord
from shopintent.server.errors import StateUnavailable
from shopintent.server.sessions import BehaviorBehind
from shopintent.server.sessions.redis import RedisSessions
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.event_service_pb2 import TrackEventsRequest
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor
from support.redis_server import RedisServer, redis_server
from support.server import eventually, failure_of, make_outside, serving
from support.session_suite import KEYRING, append, seen, view

KILLS = 50 if os.environ.get("SHOPINTENT_LONG_TESTS") else 6
N_VISITORS = 7

pytestmark = pytest.mark.events


def open_sessions(server: RedisServer, **options: Any) -> RedisSessions:
    return RedisSessions.open(server.url, pseudonyms=KEYRING, **options)


async def works_again(store: RedisSessions) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await store.append("comes back", [], timeout_s=1)
                return
            except StateUnavailable:
                await asyncio.sleep(0.02)


async def test_kill_9_of_redis_loses_no_acknowledged_event_and_doubles_none(
    tmp_path: Path,
) -> None:
    acknowledged: set[str] = set()
    log: dict[tuple[str, int], str] = {}
    with redis_server(tmp_path, "--appendfsync", "always") as server:
        stores = [open_sessions(server, max_events=1_000_000) for _ in range(2)]
        numbers = count()
        stopping = asyncio.Event()

        async def send() -> None:
            for number in numbers:
                if stopping.is_set():
                    return
                name = str(number)
                events = [view(f"{name}.{part}", number, f"{name}.{part}") for part in "ab"]
                while True:  # As a client does that is told to call again.
                    try:
                        await random.choice(stores).append(
                            f"v{number % N_VISITORS}", events, timeout_s=1
                        )
                        break
                    except StateUnavailable:
                        await asyncio.sleep(0.02)
                acknowledged.update(each.event_id for each in events)

        def write(records: list[LogRecord]) -> None:
            # Some come again, when it is not known whether Redis heard that they are logged.
            log.update({(each.source, each.sequence): each.event_id for each in records})

        async def drain() -> None:
            while not stopping.is_set():
                with suppress(StateUnavailable):
                    records = await stores[0].waiting()
                    write(records)
                    await stores[0].logged(records)
                await asyncio.sleep(0.05)

        sending = [asyncio.create_task(work) for work in (*(send() for _ in range(4)), drain())]
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.1, 0.4))
            server.kill()
            await asyncio.to_thread(server.start)
        await works_again(stores[0])
        stopping.set()
        await asyncio.gather(*sending)
        held = Counter([name for n in range(N_VISITORS) for name in await seen(stores[1], f"v{n}")])
        write(await stores[1].waiting(limit=1_000_000))
        for store in stores:
            await store.close()
    assert len(acknowledged) > 20 * KILLS
    assert acknowledged - set(held) == set(), "acknowledged events were lost"
    logged = Counter(log.values())
    assert acknowledged - set(logged) == set(), "records of acknowledged events were lost"
    assert {*held.values(), *logged.values()} == {1}, "events were counted twice"


async def test_a_redis_that_is_away_fails_calls_at_once_and_one_that_comes_back_is_used(
    tmp_path: Path,
) -> None:
    with redis_server(tmp_path, "--appendfsync", "always") as server:
        store = open_sessions(server)
        position = (await store.append("v", [view("a", 1)], timeout_s=10)).position
        for _ in range(2):
            server.kill()
            started = time.monotonic()
            for work in (
                store.append("v", [view("b", 2)], timeout_s=10),
                store.recent("v", timeout_s=10),
                store.recent("v", position=position, timeout_s=10),
                store.delete("v", timeout_s=10),
                store.find("v", timeout_s=10),
                store.newest(),
                store.waiting(),
            ):
                with pytest.raises(StateUnavailable):
                    await work
            assert time.monotonic() - started < 9
            await asyncio.to_thread(server.start)
            await works_again(store)
        assert [
            each.product_id for each in (await store.recent("v", position=position)).events
        ] == ["a"]
        await store.close()


async def test_a_server_recommends_without_behavior_while_redis_is_away(tmp_path: Path) -> None:
    visitor = Visitor(visitor_id="v")
    track = TrackEventsRequest(
        visitor=visitor,
        events=[UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id="p0", event_id="e")],
    )
    with redis_server(tmp_path / "redis", "--appendfsync", "always") as server:
        outside = replace(
            make_outside(tmp_path / "releases"),
            sessions=open_sessions(server),  # type: ignore[arg-type]
        )
        async with serving(outside) as served:

            async def recommended() -> tuple[bool, list[int]]:
                answer = await served.recommendation.Recommend(
                    pb.RecommendRequest(visitor=visitor), timeout=5
                )
                return len(answer.recommendations) > 0, list(answer.degraded_reasons)

            await served.events.TrackEvents(track, timeout=5)
            assert await recommended() == (True, [])
            server.kill()
            lost = [pb.DEGRADED_REASON_BEHAVIOR_UNAVAILABLE]
            has_any, reasons = await recommended()
            assert (has_any, set(lost) <= set(reasons)) == (True, True)
            for call in (
                served.events.TrackEvents(track, timeout=5),
                served.recommendation.PredictIntent(
                    pb.PredictIntentRequest(visitor=visitor), timeout=5
                ),
            ):
                failure = await failure_of(call)
                assert failure.code == grpc.StatusCode.UNAVAILABLE
                assert failure.info.reason == "ERROR_REASON_STATE_UNAVAILABLE"
            await asyncio.to_thread(server.start)

            async def is_well() -> bool:
                return await recommended() == (True, [])

            await eventually(is_well)
            assert (await served.events.TrackEvents(track, timeout=5)).recorded_count == 0
        await outside.sessions.close()


async def test_a_redis_that_hangs_keeps_nobody_longer_than_their_timeout(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--appendfsync", "always") as server:
        store = open_sessions(server)
        await append(store, "v", [view("a", 1)])
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            calls = [
                *(store.append(f"v{n}", [view("b", 2, "b")], timeout_s=0.2) for n in range(300)),
                *(store.recent("v", timeout_s=0.2) for _ in range(300)),
            ]
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(answer) for answer in answers} == {StateUnavailable}
        finally:
            server.process.send_signal(signal.SIGCONT)
        await works_again(store)
        for visitor in ("v", "v1", "v299"):
            await append(store, visitor, [view("b", 2, "b"), view("c", 3)])
            assert (await seen(store, visitor))[-2:] == ["b", "c"]
        await store.close()


async def test_a_primary_that_became_a_replica_is_left_for_whoever_has_its_address(
    tmp_path: Path,
) -> None:
    with redis_server(tmp_path, "--appendfsync", "always") as server, server.client() as client:
        store = open_sessions(server)
        await append(store, "v", [view("a", 1)])
        before = {each["id"] for each in client.client_list()}
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(StateUnavailable, match="read only replica"):
            await append(store, "v", [view("b", 2)])
        client.replicaof("NO", "ONE")
        await works_again(store)
        after = {each["id"] for each in client.client_list()}
        assert before & after == {str(client.client_id())}
        await store.close()


async def test_it_starts_before_redis_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path, "--appendfsync", "always") as server:
        server.kill()
        store = open_sessions(server)
        await store.check()
        assert "connect" in caplog.text.lower()
        await asyncio.to_thread(server.start)
        assert await append(store, "v", [view("a", 1)]) == [True]
        await store.close()


async def test_what_a_disk_lost_is_neither_taken_for_reached_nor_remembered(
    tmp_path: Path,
) -> None:
    """As when power fails before a flush, or a replica takes over that lags behind."""
    with redis_server(tmp_path / "redis", "--appendfsync", "always") as server:
        store, other = open_sessions(server), open_sessions(server)
        before = (await store.append("v", [view("a", 1, "a")], timeout_s=10)).position
        server.kill()
        shutil.copytree(tmp_path / "redis", tmp_path / "copy")
        await asyncio.to_thread(server.start)
        await works_again(store)
        lost = (await store.append("v", [view("lost", 2, "b")], timeout_s=10)).position
        lost_records = await store.waiting()
        await other.recent("v")
        server.kill()
        shutil.rmtree(tmp_path / "redis")
        shutil.move(tmp_path / "copy", tmp_path / "redis")
        await asyncio.to_thread(server.start)
        await works_again(store)
        with pytest.raises(BehaviorBehind):
            await store.recent("v", position=lost, timeout_s=0.1)
        assert await append(store, "v", [view("c", 3), view("lost", 4, "b")]) == [True, True]
        with pytest.raises(BehaviorBehind) as behind:
            await other.recent("v", position=lost, timeout_s=0.1)
        assert [e.event_time for e in behind.value.history.events] == [1, 3, 4]
        assert (await other.recent("v", position=before)) is behind.value.history
        known = {each.sequence for each in lost_records if each.event_id == "b"}
        again = {each.sequence for each in await store.waiting() if each.event_id != "a"}
        assert known
        assert not known & again, "a number was used twice"
        for each in (store, other):
            await each.close()
