"""How soon an answer knows what a visitor just did: tracked on one server, asked of another."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from deploy.bench.events.gateways import Gateways, connected
from deploy.bench.visitors import Visitor
from shopintent.behavior import Product
from shopintent.client import events
from shopintent.v1.event_service_pb2 import TrackEventsRequest
from shopintent.v1.event_service_pb2_grpc import EventServiceStub
from shopintent.v1.recommendation_service_pb2 import (
    PredictIntentRequest,
    PredictIntentResponse,
    StreamIntentsRequest,
)
from shopintent.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from shopintent.v1.user_event_pb2 import UserEvent
from shopintent.v1.user_event_pb2 import Visitor as VisitorMessage

PATIENCE_S = 10.0
WARM_UP = 32
"""Trials before those that count."""
UNDECIDABLE = 1e-4
"""Where an event changes an answer by less, nobody can tell whether it is known."""


@dataclass(frozen=True)
class Fresh:
    """How soon answers knew, and whether they did."""

    what: str
    store: str
    servers: str
    at_once: int
    trials: int
    stale: int
    """Answers that did not know the event."""
    undecidable: int
    """Trials of which nobody can tell; their times count."""
    p50_ms: float
    p99_ms: float
    largest_ms: float


@dataclass
class Trials:
    """What came of trials so far."""

    took_ms: list[float] = field(default_factory=list)
    stale: int = 0
    undecidable: int = 0

    def judge(
        self,
        took_s: float,
        before: PredictIntentResponse,
        expected: PredictIntentResponse,
        after: PredictIntentResponse,
        *,
        in_one_second: bool,
    ) -> None:
        """Takes down one: the answer must be nearer to the expected one than to that before.

        Answers change with every second, too, so they are only compared within one.
        """
        self.took_ms.append(took_s * 1e3)
        if not in_one_second or distance(before, expected) < UNDECIDABLE:
            self.undecidable += 1
        elif distance(after, expected) >= distance(after, before):
            self.stale += 1


def distance(one: PredictIntentResponse, other: PredictIntentResponse) -> float:
    """Returns the total variation distance of two predicted next actions."""
    chances = {each.action: each.probability for each in one.next_actions}
    return sum(abs(chances[each.action] - each.probability) for each in other.next_actions) / 2


def measure_freshness(
    gateways: Gateways,
    visitors: Sequence[Visitor],
    products: Sequence[Product],
    *,
    trials: int,
    at_once: int,
) -> Fresh:
    """Returns how soon PredictIntent of one knows what TrackEvents told the other."""

    async def measure() -> Trials:
        async with connected(gateways) as (writing, reading):
            track = EventServiceStub(writing).TrackEvents
            ask = RecommendationServiceStub(reading).PredictIntent

            async def trial(found: Trials, visitor: Visitor, event: UserEvent) -> None:
                who = VisitorMessage(visitor_id=visitor.visitor_id)
                second = int(time.time())
                before, expected = await _foretold(ask, who, event)
                start = time.perf_counter()
                tracked = await track(
                    TrackEventsRequest(visitor=who, events=[event]), timeout=PATIENCE_S
                )
                after = await ask(
                    PredictIntentRequest(visitor=who, consistency_token=tracked.consistency_token),
                    timeout=PATIENCE_S,
                )
                took_s = time.perf_counter() - start
                same = int(time.time()) == second
                found.judge(took_s, before, expected, after, in_one_second=same)

            return await _run(trial, visitors, products, trials, at_once)

    return _fresh("freshness", gateways, at_once, asyncio.run(measure()))


def measure_streams(
    gateways: Gateways,
    visitors: Sequence[Visitor],
    products: Sequence[Product],
    *,
    trials: int,
    at_once: int,
) -> Fresh | None:
    """Returns how soon a stream answers an event with the intent after it.

    None where the server does not know the call.
    """

    async def measure() -> Trials:
        async with connected(gateways) as (writing, reading):
            streams = RecommendationServiceStub(writing)
            ask = RecommendationServiceStub(reading).PredictIntent

            async def trial(found: Trials, visitor: Visitor, event: UserEvent) -> None:
                who = VisitorMessage(visitor_id=visitor.visitor_id)
                async with _visit(streams, who) as update:
                    second = int(time.time())
                    before, expected = await _foretold(ask, who, event)
                    start = time.perf_counter()
                    after = await update(event)
                    took_s = time.perf_counter() - start
                    same = int(time.time()) == second
                    found.judge(took_s, before, expected, after, in_one_second=same)

            return await _run(trial, visitors, products, trials, at_once)

    try:
        return _fresh("stream", gateways, at_once, asyncio.run(measure()))
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise


@asynccontextmanager
async def _visit(streams: Any, who: VisitorMessage) -> AsyncIterator[Callable[[UserEvent], Any]]:
    """Opens a stream for a visit; yields what sends an event and returns the intent after it."""
    call = streams.StreamIntents(timeout=PATIENCE_S)
    await call.write(StreamIntentsRequest(visitor=who))
    await _answer(call)

    async def update(event: UserEvent) -> PredictIntentResponse:
        await call.write(StreamIntentsRequest(events=[event]))
        return await _answer(call)

    try:
        yield update
        await call.done_writing()
    finally:
        call.cancel()


async def _answer(call: Any) -> PredictIntentResponse:
    answer = await call.read()
    if answer is grpc.aio.EOF:
        raise grpc.aio.AioRpcError(await call.code(), None, None, await call.details())
    intent: PredictIntentResponse = answer.intent
    return intent


async def _foretold(
    ask: Any, who: VisitorMessage, event: UserEvent
) -> tuple[PredictIntentResponse, PredictIntentResponse]:
    """Returns the intent of a visitor now, and what it will be with an event."""
    before = await ask(PredictIntentRequest(visitor=who), timeout=PATIENCE_S)
    request = PredictIntentRequest(visitor=who, recent_events=[event])
    return before, await ask(request, timeout=PATIENCE_S)


async def _run(
    trial: Callable[[Trials, Visitor, UserEvent], Any],
    visitors: Sequence[Visitor],
    products: Sequence[Product],
    trials: int,
    at_once: int,
) -> Trials:
    """Tries so often, after a warm-up; each visitor is tried by one at a time."""

    async def one(number: int, found: Trials, left: Iterator[int]) -> None:
        own = itertools.cycle(visitors[number::at_once])
        shelf = itertools.cycle(products[number::at_once])
        for _ in left:
            event = events.add_to_cart(next(shelf).product_id, event_id=str(uuid.uuid4()))
            await trial(found, next(own), event)

    for tried in (WARM_UP, trials):
        found, left = Trials(), iter(range(tried))
        await asyncio.gather(*(one(number, found, left) for number in range(at_once)))
    return found


def _fresh(what: str, gateways: Gateways, at_once: int, found: Trials) -> Fresh:
    p50, p99 = np.percentile(found.took_ms, [50, 99])
    return Fresh(
        what=what,
        store=gateways.store,
        servers="one stream" if what == "stream" else gateways.what,
        at_once=at_once,
        trials=len(found.took_ms),
        stale=found.stale,
        undecidable=found.undecidable,
        p50_ms=round(float(p50), 2),
        p99_ms=round(float(p99), 2),
        largest_ms=round(max(found.took_ms), 2),
    )
