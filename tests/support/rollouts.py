"""Several releases of one tiny shop that answer differently, and shoppers who watch closely."""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import torch

from shopintent.artifacts import ReleasesRoot
from shopintent.server.config import Config
from shopintent.trainer.data.progress import silent
from shopintent.trainer.publish import publish
from shopintent.trainer.run import Run
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1 import recommendation_service_pb2_grpc
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor
from support.trained import Trained

PAGE = 5
PATIENCE_S = 10.0
APART = 0.02
"""How far the answers of two releases must be apart at least, for a mixture to be seen."""


def full_form(quick: int, full: int) -> int:
    """Returns how often to do something: `quick`, or `full` when SHOPINTENT_LONG_TESTS is set."""
    return full if os.environ.get("SHOPINTENT_LONG_TESTS") else quick


def publish_another(trained: Trained, root: ReleasesRoot, release_id: str, *, seed: int) -> None:
    """Publishes a release of the same shop that answers otherwise."""
    publish(changed(trained.run, seed), trained.dataset, root, release_id, silent)


def changed(run: Run, seed: int) -> Run:
    """Returns the run with another next-action head and other directions in the product space."""
    generator = torch.Generator().manual_seed(seed)
    run = replace(run, network=copy.deepcopy(run.network), heads=copy.deepcopy(run.heads))
    with torch.no_grad():
        for tensor in run.heads.action.state_dict().values():
            tensor += torch.randn(tensor.shape, generator=generator) * 0.3
        for layer in (run.network.behavior, run.network.look_for, run.network.looks):
            layer.weight += torch.randn(layer.weight.shape, generator=generator) * 0.3
    return run


def config_of(
    root: ReleasesRoot, triton: str, key: str, *, index_path: Path | None = None
) -> Config:
    """Returns what a program needs that shifts traffic."""
    return Config(
        releases=root.path,
        triton_address=triton,
        triton_model_control_key=key,
        index_path=index_path,
    )


@dataclass
class Expected:
    """What one release answers one shopper."""

    intent: dict[str, float]
    products: list[str]

    def distance(self, intent: dict[str, float]) -> float:
        """Returns the total variation distance of another predicted intent."""
        return sum(abs(self.intent[name] - intent[name]) for name in self.intent) / 2


@dataclass
class Shopper:
    """Somebody whose behavior is sent with each call, so that answers differ only by release."""

    visitor_id: str
    products: Sequence[str]

    @property
    def events(self) -> list[UserEvent]:
        return [UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=p) for p in self.products]


def shoppers(trained: Trained, count: int) -> list[Shopper]:
    """Returns shoppers who looked at different products."""
    ids = itertools.cycle([product.product_id for product in trained.dataset.products()])
    return [Shopper(f"watcher-{n}", list(itertools.islice(ids, 3))) for n in range(count)]


@dataclass
class Watch:
    """What shoppers saw so far."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    releases: dict[str, int] = field(default_factory=dict)

    @property
    def last(self) -> str:
        """The release of the newest answer."""
        return next(reversed(self.releases), "")

    def count(self, release_id: str) -> None:
        """Counts an answer."""
        self.answers += 1
        self.releases[release_id] = self.releases.pop(release_id, 0) + 1


async def intent_of(stub: Any, shopper: Shopper) -> tuple[str, dict[str, float]]:
    """Returns the release that answered, and the next actions that it expects."""
    request = pb.PredictIntentRequest(
        visitor=Visitor(visitor_id=shopper.visitor_id), recent_events=shopper.events
    )
    answer = await stub.PredictIntent(request, timeout=PATIENCE_S)
    # A model of another release must never have answered in the name of this one.
    assert answer.model.model_name == f"intent_{answer.model.release_id}"
    return answer.model.release_id, {a.action: a.probability for a in answer.next_actions}


async def products_of(stub: Any, shopper: Shopper) -> tuple[str, list[str]]:
    """Returns the release that answered, and the products that it recommends."""
    request = pb.RecommendRequest(
        visitor=Visitor(visitor_id=shopper.visitor_id),
        recent_events=shopper.events,
        page_size=PAGE,
    )
    answer = await stub.Recommend(request, timeout=PATIENCE_S)
    assert not answer.degraded_reasons, f"degraded: {list(answer.degraded_reasons)}"
    return answer.model.release_id, [each.product.id for each in answer.recommendations]


async def learn(stub: Any, everybody: Sequence[Shopper]) -> dict[str, Expected]:
    """Returns what the release that serves alone answers each shopper."""
    expected = {}
    for shopper in everybody:
        (_, intent), (_, products) = (
            await intent_of(stub, shopper),
            await products_of(stub, shopper),
        )
        expected[shopper.visitor_id] = Expected(intent, products)
    return expected


@asynccontextmanager
async def watching(
    address: str,
    everybody: Sequence[Shopper],
    expected: dict[str, dict[str, Expected]],
    *,
    at_once: int = 4,
    pause_s: float = 0.005,
) -> AsyncIterator[Watch]:
    """Keeps shoppers asking while the block runs, and compares every answer with the expected.

    `expected` is by release, then by shopper; releases that are not in it are only counted. Calls
    are never retried.
    """
    watch = Watch()
    options = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
        asking = [
            asyncio.create_task(_ask(stub, everybody, number, expected, watch, pause_s))
            for number in range(at_once)
        ]
        try:
            yield watch
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def _ask(
    stub: Any,
    everybody: Sequence[Shopper],
    number: int,
    expected: dict[str, dict[str, Expected]],
    watch: Watch,
    pause_s: float,
) -> None:
    for turn in itertools.count(number):
        shopper = everybody[turn % len(everybody)]
        try:
            if turn % 2:
                release_id, intent = await intent_of(stub, shopper)
                problem = _foreign_intent(expected, release_id, shopper, intent)
            else:
                release_id, products = await products_of(stub, shopper)
                problem = _foreign_products(expected, release_id, shopper, products)
        except (grpc.aio.AioRpcError, AssertionError) as error:
            watch.failures.append(str(error))
        else:
            watch.count(release_id)
            if problem:
                watch.mixed.append(problem)
        await asyncio.sleep(pause_s)


def _foreign_intent(
    expected: dict[str, dict[str, Expected]],
    release_id: str,
    shopper: Shopper,
    intent: dict[str, float],
) -> str | None:
    """Returns what is wrong when another release's intent comes in the name of this one.

    The hour passes while tests run, so that answers may move a little; they stay nearest to their
    own release's.
    """
    if release_id not in expected:
        return None
    distances = {
        each: known[shopper.visitor_id].distance(intent) for each, known in expected.items()
    }
    nearest = min(distances, key=distances.__getitem__)
    return None if nearest == release_id else f"{release_id} gave the intent of {nearest}"


def _foreign_products(
    expected: dict[str, dict[str, Expected]],
    release_id: str,
    shopper: Shopper,
    products: list[str],
) -> str | None:
    if release_id not in expected:
        return None
    shared = {
        each: len(set(products) & set(known[shopper.visitor_id].products))
        for each, known in expected.items()
    }
    if shared[release_id] == max(shared.values()) and shared[release_id] >= PAGE - 2:
        return None
    return f"{release_id} recommended {products}, of which {shared} were expected by release"
