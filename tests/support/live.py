"""Shoppers of a live server who remember what it acknowledged, whatever becomes of it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import polars as pl

from shopintent.artifacts.event_log import LogRecord, log_files, segment_lines
from shopintent.v1 import (
    event_service_pb2_grpc,
    recommendation_service_pb2_grpc,
    visitor_service_pb2_grpc,
)
from shopintent.v1.event_service_pb2 import TrackEventsRequest, TrackEventsResponse
from shopintent.v1.recommendation_service_pb2 import (
    DEGRADED_REASON_BEHAVIOR_UNAVAILABLE,
    PredictIntentRequest,
)
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor

PATIENCE_S = 10.0
EVENTS_A_VISITOR = 30
LOGGED_IN = 4
"""Every so many visitors log in halfway."""


@dataclass(frozen=True, eq=False)
class Gateway:
    """A connection to one server, on which nothing is retried."""

    channel: grpc.aio.Channel

    @property
    def events(self) -> Any:
        return event_service_pb2_grpc.EventServiceStub(self.channel)

    @property
    def recommendation(self) -> Any:
        return recommendation_service_pb2_grpc.RecommendationServiceStub(self.channel)

    @property
    def visitors(self) -> Any:
        return visitor_service_pb2_grpc.VisitorServiceStub(self.channel)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Gateway]:
    """Opens a connection of its own to a server."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Gateway(channel)


@dataclass(frozen=True, eq=False)
class Sent:
    """A call of TrackEvents, to be sent again as it is until it is acknowledged."""

    key: str
    """Of the visitor, whom it also names when it stands for a known shopper by then."""
    request: TrackEventsRequest

    @property
    def event_ids(self) -> list[str]:
        return [event.event_id for event in self.request.events]


@dataclass
class Ledger:
    """What shoppers sent, and what of it was acknowledged."""

    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    """Event ids by the key of the visitor."""
    tokens: dict[str, tuple[Visitor, str]] = field(default_factory=dict)
    """By key who it is and the newest token."""
    waiting: dict[int, Sent] = field(default_factory=dict)
    """By the number of the shopper the call that was not answered."""
    wrong: list[str] = field(default_factory=list)
    reads: int = 0

    @property
    def event_ids(self) -> list[str]:
        """Everything that was acknowledged."""
        return [each for ids in self.acknowledged.values() for each in ids]

    def acknowledge(self, sent: Sent, answer: TrackEventsResponse, *, again: bool) -> None:
        """Takes down that a call was answered; `again` says whether it had been sent before."""
        counts = {len(sent.event_ids)} | ({0} if again else set())
        if answer.recorded_count not in counts:
            self.wrong.append(f"{answer.recorded_count} recorded of {sent.event_ids}")
        self.acknowledged.setdefault(sent.key, []).extend(sent.event_ids)
        self.tokens[sent.key] = (sent.request.visitor, answer.consistency_token)


def visits(round_number: int, shopper: int) -> Iterator[Sent]:
    """Yields what a shopper of a round sends: visitors one after another, 1 to 3 events a call.

    What an event is about is named as its id.
    """
    sizes = random.Random(f"{round_number}.{shopper}")
    for number in itertools.count():
        name = f"{round_number}.{shopper}.{number}"
        logs_in = number % LOGGED_IN == 0
        done = 0
        while done < EVENTS_A_VISITOR:
            knows_user = logs_in and done >= EVENTS_A_VISITOR // 2
            ids = [f"e{name}.{done + i}" for i in range(sizes.randint(1, 3))]
            done += len(ids)
            yield Sent(
                f"visitor:v{name}",
                TrackEventsRequest(
                    visitor=Visitor(
                        visitor_id=f"v{name}", user_id=f"u{name}" if knows_user else ""
                    ),
                    events=[
                        UserEvent(
                            event_type=EVENT_TYPE_VIEW_PRODUCT, event_id=each, product_id=each
                        )
                        for each in ids
                    ],
                ),
            )


async def track_until_killed(
    gateway: Gateway, ledger: Ledger, round_number: int, shopper: int
) -> None:
    """Tracks, first what was not answered before, until a call fails."""
    left = ledger.waiting.get(shopper)
    calls = visits(round_number, shopper)
    for sent in calls if left is None else itertools.chain([left], calls):
        ledger.waiting[shopper] = sent
        try:
            answer = await gateway.events.TrackEvents(sent.request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                ledger.wrong.append(f"tracking: {error.code()}: {error.details()}")
            return
        ledger.acknowledge(sent, answer, again=sent is left)
        del ledger.waiting[shopper]


async def settle(gateway: Gateway, ledger: Ledger) -> None:
    """Sends again what was not answered."""
    for shopper, sent in sorted(ledger.waiting.items()):
        answer = await gateway.events.TrackEvents(sent.request, timeout=PATIENCE_S)
        ledger.acknowledge(sent, answer, again=True)
        del ledger.waiting[shopper]


async def read_until_killed(gateway: Gateway, ledger: Ledger) -> None:
    """Asks for intents of visitors with what they were acknowledged, old ones too."""
    while True:
        if not ledger.tokens:
            await asyncio.sleep(0.01)
            continue
        visitor, token = random.choice(list(ledger.tokens.values()))
        request = PredictIntentRequest(visitor=visitor, consistency_token=token)
        try:
            answer = await gateway.recommendation.PredictIntent(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                ledger.wrong.append(f"reading: {error.code()}: {error.details()}")
            return
        ledger.reads += 1
        if DEGRADED_REASON_BEHAVIOR_UNAVAILABLE in answer.degraded_reasons:
            ledger.wrong.append(f"{visitor} was answered without what was acknowledged")


@asynccontextmanager
async def shopping(
    address: str, ledger: Ledger, round_number: int, *, trackers: int = 8, readers: int = 2
) -> AsyncIterator[None]:
    """Has shoppers track and read at once while the block runs, or until the server is killed."""
    async with connected(address) as gateway:
        tasks = [
            *(
                asyncio.create_task(track_until_killed(gateway, ledger, round_number, shopper))
                for shopper in range(trackers)
            ),
            *(asyncio.create_task(read_until_killed(gateway, ledger)) for _ in range(readers)),
        ]
        try:
            yield
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def logged_records(folder: Path) -> list[LogRecord]:
    """Returns every record of a log that servers may be writing to."""
    while True:
        with suppress(FileNotFoundError):  # It was replaced; the list of files is old.
            return [record for path in log_files(folder) for record in _records_in(path)]


def _records_in(path: Path) -> Iterator[LogRecord]:
    if path.suffix == ".parquet":
        for row in pl.read_parquet(path).iter_rows(named=True):
            yield LogRecord.from_fields(row)
    else:
        yield from map(LogRecord.from_line, segment_lines(path))


def repeated(names: Sequence[str]) -> dict[str, int]:
    """Returns what stands there more than once."""
    return {name: n for name, n in Counter(names).items() if n > 1}
