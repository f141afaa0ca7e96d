"""What is compared, each behind one face: it starts, shows that it is right, and names targets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.bench.load import Target, json_target
from deploy.bench.machine import memory_mb
from deploy.bench.peers import behaviors, running
from deploy.bench.peers.behaviors import Model
from deploy.bench.peers.peers import Json, Peer, Settings
from deploy.bench.peers.processor import cpu_s
from deploy.bench.servers import serving
from deploy.bench.targets import (
    PATIENCE_S,
    PREDICT_INTENT,
    ask_predict_intent,
    predict_intent_target,
)
from deploy.bench.verify import TOLERANCE, WrongAnswer, answer_bytes
from deploy.bench.verify import difference as probability_difference
from deploy.bench.visitors import Visitor, track
from shopintent.artifacts import ReleasesRoot
from shopintent.client import ShopIntentClient, ShopIntentError

N_VERIFIED = 64
AT_ONCE = 16
"""Calls that are verified: so many that batches are, too."""
N_PRODUCTS = 10_000
"""Of our server's collection. PredictIntent does not read it."""


@dataclass(frozen=True, eq=False)
class Shop:
    """What everybody is asked about."""

    releases: ReleasesRoot
    model: Model
    visitors: Sequence[Visitor]
    request_time: int
    out: Path
    """Where logs and collections are kept."""

    def behaviors(self) -> list[Json]:
        """Returns the behaviors of all visitors, as peers are asked about them."""
        return [
            self.model.behavior(visitor, request_time=self.request_time)
            for visitor in self.visitors
        ]


@dataclass(frozen=True, eq=False)
class Started:
    """A contender that serves."""

    targets: Sequence[Target]
    verify: Callable[[], float]
    """Returns how far its answers are off; raises WrongAnswer when that is too far."""
    pids: Sequence[int]
    """Of the processes that all others are below."""

    def memory_mb(self) -> float:
        """Returns the memory that all of it takes."""
        return sum(map(memory_mb, self.pids))

    def cpu_s(self) -> float:
        """Returns the processor time that all of it has taken so far."""
        return sum(map(cpu_s, self.pids))


@dataclass(frozen=True, eq=False)
class Contender:
    """What can be started, again and again."""

    name: str
    title: str
    start: Callable[[], AbstractContextManager[Started]]


def ourselves(shop: Shop, server_options: Sequence[str]) -> Contender:
    """Returns Triton and our server in front of it, without any change for this benchmark."""

    @contextmanager
    def start() -> Iterator[Started]:
        with (
            serving(
                shop.releases,
                [N_PRODUCTS],
                shop.out,
                server_options=server_options,
                say=lambda _: None,
            ) as servers,
            ShopIntentClient(servers.by_size[N_PRODUCTS].address, insecure=True) as client,
        ):
            address = servers.by_size[N_PRODUCTS].address
            track(client, shop.visitors)
            n_bytes = answer_bytes(ask_predict_intent, client, shop.visitors[:N_VERIFIED])
            targets = (
                predict_intent_target(address, shop.visitors),
                behaviors.with_events_target(address, shop.visitors),
            )
            processes = [servers.triton, servers.by_size[N_PRODUCTS].process]
            yield Started(
                targets=[replace(target, answer_bytes=n_bytes) for target in targets],
                verify=lambda: _verify_ourselves(shop, client),
                pids=[process.popen.pid for process in processes],
            )

    return Contender(PREDICT_INTENT, "shopintent", start)


def _verify_ourselves(shop: Shop, client: ShopIntentClient) -> float:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        checked = pool.map(
            lambda each: _verify_visitor(shop, client, each), shop.visitors[:N_VERIFIED]
        )
        return max(checked)


def _verify_visitor(shop: Shop, client: ShopIntentClient, visitor: Visitor) -> float:
    began = time.monotonic()
    while True:
        now = int(time.time())
        try:
            answers = [
                ask_predict_intent(client, visitor),
                client.predict_intent(
                    behaviors.UNTRACKED, behaviors.sent_events(visitor), timeout_s=PATIENCE_S
                ),
            ]
        except ShopIntentError:
            # It may hold calls back for a while after a load.
            if time.monotonic() - began > PATIENCE_S:
                raise
            time.sleep(0.2)
            continue
        if int(time.time()) == now:
            break
    right = shop.model.outputs(shop.model.behavior(visitor, request_time=now))
    found = max(probability_difference(each, right, shop.model.manifest) for each in answers)
    if not found <= TOLERANCE:
        raise WrongAnswer(f"PredictIntent differs from onnxruntime by {found:g}")
    return found


def peer(shop: Shop, which: Peer, settings: Settings, python: Path) -> Contender:
    """Returns a peer with some settings, in the environment that the Python belongs to."""
    asked = shop.behaviors()
    bodies = [json.dumps(which.request(each), separators=(",", ":")).encode() for each in asked]

    @contextmanager
    def start() -> Iterator[Started]:
        log_file = shop.out / "logs" / "peers" / f"{which.name}.log"
        with running.serving(
            which, settings, python, shop.releases, log_file, behavior=asked[0]
        ) as server:
            yield Started(
                targets=[json_target(which.name, server.url, bodies)],
                verify=lambda: _verify_peer(shop, server, asked[:N_VERIFIED]),
                pids=[server.process.popen.pid],
            )

    return Contender(which.name, which.title, start)


def _verify_peer(shop: Shop, server: running.Server, asked: Sequence[Json]) -> float:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(server.ask, asked))
    return max(
        behaviors.difference(server.peer.title, behaviors.said(answer), shop.model.expected(each))
        for each, answer in zip(asked, answers, strict=True)
    )
