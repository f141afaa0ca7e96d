"""Visits over StreamIntents with real servers: killed, told to end, and left for another.

SHOPINTENT_LONG_TESTS=1 runs the long form: 20 kills.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.demo.processes import Process, clean_environment
from deploy.demo.stack import Stack, server
from shopintent.client import AsyncShopIntentClient, ShopIntentClient, events
from shopintent.server.sessions.sqlite import SqliteSessions
from shopintent.v1.recommendation_service_pb2 import StreamIntentsResponse
from support.rollouts import full_form
from support.stack import World

pytestmark = pytest.mark.events

EXAMPLES = Path(__file__).parents[2] / "clients" / "python" / "examples"
KILLS = full_form(3, 20)
N_SHOPPERS = 4
PATIENCE_S = 120.0
TOKEN = "a-token-of-this-test"


@contextmanager
def serving(
    world: World,
    stack: Stack,
    folder: Path,
    *,
    port: int = 0,
    index: str = "index",
    options: Sequence[str] = (),
) -> Iterator[tuple[Process, str]]:
    """Runs a server of its own state, which servers of one folder share."""
    options = [
        *options,
        f"--state-path={folder / 'state'}",
        f"--index-path={folder / index}",
        "--max-session-events=100000",
        "--log-level=warning",
    ]
    with server(
        world.releases, stack.triton_address, folder / index, port=port, server_options=options
    ) as started:
        yield started


Start = Callable[[int], AbstractContextManager[tuple[Process, str]]]
"""Runs a server on a port, 0 for any."""


class Killed:
    """A server that is killed (SIGKILL) every now and then and started again on its port.

    After the last kill `is_over` is set; it serves on until the block ends.
    """

    def __init__(self, start: Start, kills: int) -> None:
        self.address = ""
        self.n_killed = 0
        self.is_over = threading.Event()
        self._start = start
        self._kills = kills
        self._is_up = threading.Event()
        self._is_left = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killed:
        self._thread.start()
        assert self._is_up.wait(PATIENCE_S)
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_left.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        rng, port = random.Random(5), 0
        while True:
            with self._start(port) as (process, self.address):
                port = int(self.address.rpartition(":")[2])
                self._is_up.set()
                time.sleep(rng.uniform(0.3, 1.5))
                if self.n_killed == self._kills or self._is_left.is_set():
                    self.is_over.set()
                    self._is_left.wait(PATIENCE_S)
                    return
                process.popen.kill()
                process.popen.wait()
                self.n_killed += 1


def held(folder: Path, visitor: str) -> list[str]:
    """Returns the products of all events that a server left of a visitor."""

    async def read() -> list[str]:
        sessions = SqliteSessions.open(folder / "state" / "sessions.sqlite", max_events=100_000)
        history = await sessions.recent(f"visitor:{visitor}")
        await sessions.close()
        return [event.product_id for event in history.events]

    return asyncio.run(read())


@pytest.mark.timeout(full_form(300, 1800))
def test_no_event_of_a_visit_is_lost_or_counts_twice_when_its_server_is_killed(
    world: World, stack: Stack, tmp_path: Path
) -> None:
    sent: dict[str, list[str]] = {f"anna-{number}": [] for number in range(N_SHOPPERS)}
    failures: list[BaseException] = []

    async def shop_until(is_over: threading.Event, address: str, visitor: str) -> None:
        async with (
            AsyncShopIntentClient(address, insecure=True) as client,
            client.stream_intents(visitor, timeout_s=PATIENCE_S) as visit,
        ):
            while not is_over.is_set():
                seen = [f"{visitor}-{len(sent[visitor]) + n}" for n in range(3)]
                sent[visitor] += seen
                answer = await visit.send([events.view_product(each) for each in seen])
                assert answer.consistency_token

    async def shop(server: Killed) -> None:
        results = await asyncio.gather(
            *(shop_until(server.is_over, server.address, visitor) for visitor in sent),
            return_exceptions=True,
        )
        failures.extend(each for each in results if each is not None)

    with Killed(lambda port: serving(world, stack, tmp_path, port=port), KILLS) as server:
        asyncio.run(shop(server))
    assert failures == []
    assert server.n_killed == KILLS
    for visitor, products in sent.items():
        counted = Counter(held(tmp_path, visitor))
        assert set(products) == set(counted), "an answered event is lost"
        assert set(counted.values()) == {1}, "an event counts twice"


def test_a_visit_goes_on_at_another_server_when_its_own_is_told_to_end(
    world: World, stack: Stack, tmp_path: Path
) -> None:
    with (
        serving(world, stack, tmp_path, index="one") as (first, one),
        serving(world, stack, tmp_path, index="two") as (_, two),
        # A name that stands for both: the first that answers is taken.
        ShopIntentClient(f"ipv4:{one},{two}", insecure=True) as client,
        client.stream_intents("anna", timeout_s=PATIENCE_S) as visit,
    ):
        answers = [visit.send([events.view_product("p-0")])]
        os.kill(first.popen.pid, signal.SIGTERM)
        for number in range(1, 20):
            answers.append(visit.send([events.view_product(f"p-{number}")]))
        assert first.popen.wait(PATIENCE_S) == 0
        answers.append(visit.send([events.view_product("p-20")]))
        assert [each.recorded_count for each in answers] == [1] * 21
        assert all(each.HasField("intent") for each in answers)
    assert sorted(held(tmp_path, "anna")) == sorted(f"p-{number}" for number in range(21))


def test_a_stream_that_nobody_ends_does_not_keep_a_server_from_ending(
    world: World, stack: Stack, tmp_path: Path
) -> None:
    # Calls that go on would get ten minutes, and this test has less.
    with (
        serving(world, stack, tmp_path, options=["--grace-s=600"]) as (process, address),
        ShopIntentClient(address, insecure=True) as client,
        client.stream_intents("anna") as visit,
    ):
        visit.send([events.view_product("p-0")])
        process.popen.terminate()
        assert process.popen.wait(PATIENCE_S) == 0


def test_intents_of_a_stream_move_with_every_event_as_those_of_calls_do(
    world: World, stack: Stack
) -> None:
    shown = [product for product in world.dataset.products() if product.in_stock]

    def probabilities(answer: StreamIntentsResponse) -> dict[str, float]:
        return {each.action: each.probability for each in answer.intent.next_actions}

    with (
        ShopIntentClient(stack.address, insecure=True) as client,
        client.stream_intents(f"stream-{time.time_ns()}") as visit,
    ):
        answers = [visit.send()]
        for event in (
            events.search(shown[0].title),
            events.view_product(shown[0].product_id),
            events.add_to_cart(shown[0].product_id),
        ):
            answers.append(visit.send([event]))
    told = [probabilities(answer) for answer in answers]
    for before, after in pairwise(told):
        assert sum(after.values()) == pytest.approx(1, abs=1e-4)
        assert max(abs(after[each] - before[each]) for each in after) > 1e-4


def test_the_example_of_a_deletion_runs(world: World, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with serving(
        world, stack, tmp_path, options=[f"--visitor-token-file={tmp_path / 'token'}"]
    ) as (_, address):
        with ShopIntentClient(address, insecure=True) as client:
            client.track_events("anna", [events.view_product("p-0")], timeout_s=PATIENCE_S)
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "delete_visitor.py"), address, "anna"],
            env={**clean_environment(), "SHOPINTENT_VISITOR_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 0, done.stderr
    assert "sessions   1 events deleted" in done.stdout
    assert "nothing is left" in done.stdout
