"""What visitors do is kept, once, seen at once by every server, and gone when it is deleted.

Real servers, a real Triton, a real Redis. SHOPINTENT_LONG_TESTS=1 asks for the full forms: 50 kills
and 100,000 reads.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.demo.stack import Stack
from shopintent.client import AsyncShopIntentClient
from shopintent.server.keyring_file import read_keyring, rotate
from shopintent.server.sessions.sqlite import SqliteSessions
from shopintent.trainer.data.event_log import prepare_events
from shopintent.v1.event_service_pb2 import TrackEventsRequest
from shopintent.v1.recommendation_service_pb2 import (
    DEGRADED_REASON_BEHAVIOR_UNAVAILABLE,
    ProductFilter,
    RecommendRequest,
)
from shopintent.v1.user_event_pb2 import (
    EVENT_TYPE_IMPRESSION,
    EVENT_TYPE_PURCHASE,
    EVENT_TYPE_SEARCH,
    EVENT_TYPE_VIEW_CATEGORY,
    EVENT_TYPE_VIEW_PRODUCT,
    UserEvent,
    Visitor,
)
from support.live import Gateway, Ledger, connected, logged_records, repeated, settle, shopping
from support.live_shop import VISITOR_TOKEN, open_shop
from support.rollouts import full_form
from support.stack import World
from support.traces import found_in, traces

pytestmark = [pytest.mark.events, pytest.mark.timeout(7200)]

PATIENCE_S = 60.0
DAY_S = 86_400
AT_ONCE = 16
VIEWS = 5
"""Products that a visitor looks at, one after another."""
NEEDS_REDIS = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="needs redis-server (Debian package)"
)
STORES = ("sqlite", pytest.param("redis", marks=NEEDS_REDIS))


async def test_kill_9_loses_no_acknowledged_event_and_repeats_none(
    world: World, stack: Stack, tmp_path: Path
) -> None:
    ledger, moments = Ledger(), random.Random(9)
    with open_shop(world, stack, tmp_path, "sqlite") as shop:
        for number in range(full_form(3, 50)):
            known = len(ledger.event_ids)
            with shop.gateway() as (process, address):
                async with shopping(address, ledger, number):
                    await asyncio.sleep(moments.uniform(0.2, 2.0))
                    process.popen.kill()
            assert ledger.wrong == []
            assert len(ledger.event_ids) > known
        with shop.gateway() as (_, address):
            async with connected(address) as gateway:
                await settle(gateway, ledger)
            await shop.wait_for_log(set(ledger.event_ids))
        logged = [each.event_id for each in logged_records(shop.log) if each.event_id]
    assert ledger.wrong == []
    assert ledger.reads > 0
    assert repeated(logged) == {}
    assert set(logged) == set(ledger.event_ids)
    sessions = SqliteSessions.open(shop.sessions)
    for key, event_ids in ledger.acknowledged.items():
        held = Counter(event.product_id for event in (await sessions.recent(key)).events)
        assert held == Counter(event_ids), key
    await sessions.close()
    print(f"{len(logged):,} events were acknowledged, and {ledger.reads:,} intents beside them")


@NEEDS_REDIS
async def test_what_one_gateway_was_told_the_other_answers_from(
    world: World, stack: Stack, tmp_path: Path
) -> None:
    trials = full_form(2_000, 100_000)
    category, shelf = a_shelf(world)
    stale, reads, refused = list[str](), 0, 0

    async def page(gateway: Gateway, visitor: Visitor, token: str) -> set[str]:
        request = RecommendRequest(
            visitor=visitor,
            page_size=100,
            filter=ProductFilter(categories=[category]),
            consistency_token=token,
        )
        answer = await gateway.recommendation.Recommend(request, timeout=PATIENCE_S)
        assert DEGRADED_REASON_BEHAVIOR_UNAVAILABLE not in answer.degraded_reasons
        return {each.product.id for each in answer.recommendations}

    async def visit(writing: Gateway, reading: Gateway) -> None:
        nonlocal reads
        visitor, seen = Visitor(visitor_id=f"reader-{uuid.uuid4()}"), set[str]()
        for product_id in random.sample(shelf, VIEWS):
            request = TrackEventsRequest(visitor=visitor, events=[view(product_id)])
            tracked = await writing.events.TrackEvents(request, timeout=PATIENCE_S)
            seen.add(product_id)
            shown = await page(reading, visitor, tracked.consistency_token)
            reads += 1
            if not shown or shown & seen:
                stale.append(visitor.visitor_id)

    async def visit_on(writing: Gateway, reading: Gateway) -> None:
        nonlocal refused
        while reads < trials:
            try:
                await visit(writing, reading)
            except grpc.aio.AioRpcError as error:
                # What a busy server refuses is no read.
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                refused += 1
                await asyncio.sleep(0.5)

    with (
        open_shop(world, stack, tmp_path, "redis") as shop,
        shop.gateway("-a") as (_, first),
        shop.gateway("-b") as (_, second),
    ):
        async with connected(first) as a, connected(second) as b:
            # Whatever a page leaves out later, it leaves out because it was looked at.
            assert await page(b, Visitor(), "") == set(shelf)
            ways = itertools.cycle([(a, b), (b, a)])
            await asyncio.gather(*(visit_on(*next(ways)) for _ in range(AT_ONCE)))
    assert stale == []
    print(f"{reads:,} of {reads:,} reads knew what was told the other; {refused} were refused")


@pytest.mark.parametrize("store", STORES)
async def test_nothing_is_left_of_a_shopper_who_was_deleted(
    world: World, stack: Stack, tmp_path: Path, store: str
) -> None:
    gone = Visitor(visitor_id=f"cookie-{uuid.uuid4()}", user_id=f"account-{uuid.uuid4()}")
    tablet = Visitor(visitor_id=f"tablet-{uuid.uuid4()}", user_id=gone.user_id)
    stays = Visitor(visitor_id=f"other-{uuid.uuid4()}")
    secret = f"a gift for {uuid.uuid4()}"
    product_id = next(world.dataset.products()).product_id
    tracked: list[UserEvent] = []

    async def visit(client: AsyncShopIntentClient, visitor: Visitor) -> None:
        shown = named(UserEvent(event_type=EVENT_TYPE_IMPRESSION, shown_product_ids=[product_id]))
        searched = named(UserEvent(event_type=EVENT_TYPE_SEARCH, search_query=secret))
        events = [view(product_id), shown, *([] if visitor is stays else [searched])]
        await client.track_events(visitor, events, timeout_s=PATIENCE_S)
        tracked.extend(events)

    with open_shop(world, stack, tmp_path, store) as shop:
        with shop.gateway() as (_, address):
            async with AsyncShopIntentClient(address, insecure=True) as client:
                for who in (Visitor(visitor_id=gone.visitor_id), gone, tablet, stays):
                    await visit(client, who)
            await shop.wait_for_log({each.event_id for each in tracked})
        shop.finish_day()
        rotate(shop.keys)
        with shop.gateway() as (_, address):
            async with AsyncShopIntentClient(
                address, insecure=True, visitor_token=VISITOR_TOKEN
            ) as client:
                for who in (Visitor(user_id=gone.user_id), gone, stays):
                    await visit(client, who)
                await shop.wait_for_log({each.event_id for each in tracked})
                await visit(client, gone)  # Perhaps not in the log yet.
                keys = [f"visitor:{each.visitor_id}" for each in (gone, tablet)]
                wanted = traces([*keys, f"user:{gone.user_id}"], read_keyring(shop.keys))
                wanted[secret.encode()] = "what the shopper searched for"
                # The search can find what is there to be found.
                assert len({each.split(" in ")[0] for each in found_in(tmp_path, wanted)}) >= 4

                receipt = await client.delete_visitor(gone, timeout_s=PATIENCE_S)
                late = [view(product_id, at=time.time() - 60)]
                dropped = await client.track_events(tablet, late, timeout_s=PATIENCE_S)
                found = [
                    await client.verify_deletion(each, timeout_s=PATIENCE_S)
                    for each in (gone, tablet)
                ]
                assert found_in(tmp_path, wanted) == []
        assert found_in(tmp_path, wanted) == []
        left = {each.shopper for each in logged_records(shop.log)}
    counts = {each.store: each.count for each in receipt.stores}
    assert counts["sessions"] > 0
    assert counts["event-log"] >= 15
    assert dropped.recorded_count == 0
    assert [(each.deleted, [s.count for s in each.stores]) for each in found] == [
        (True, [0] * 3)
    ] * 2
    assert left == set(read_keyring(shop.keys).pseudonyms(f"visitor:{stays.visitor_id}"))


@pytest.mark.parametrize("store", STORES)
async def test_training_reads_exactly_what_was_tracked(
    world: World, stack: Stack, tmp_path: Path, store: str
) -> None:
    products = [each.product_id for each in itertools.islice(world.dataset.products(), 40)]
    done: dict[str, list[tuple[Any, ...]]] = {}
    tracked: list[str] = []
    impressions = 0
    start = int(time.time()) - 5_000

    async def visit(client: AsyncShopIntentClient, number: int, since: int) -> None:
        nonlocal impressions
        visitor_id = f"visitor-{number:02}"
        logs_in = number % 3 == 0
        key = f"user:user-{number:02}" if logs_in else f"visitor:{visitor_id}"
        for turn, product_id in enumerate(random.sample(products, 6)):
            at = since + 20 * turn + number
            user_id = f"user-{number:02}" if logs_in and (turn > 2 or since > start) else ""
            events = [
                view(product_id, at=at),
                named(UserEvent(event_type=EVENT_TYPE_SEARCH, search_query=f"q {turn} ünï"), at),
                named(UserEvent(event_type=EVENT_TYPE_VIEW_CATEGORY, category="A > B"), at + 1),
                named(
                    UserEvent(event_type=EVENT_TYPE_PURCHASE, product_id=product_id, quantity=2),
                    at + 2,
                ),
                named(
                    UserEvent(event_type=EVENT_TYPE_IMPRESSION, shown_product_ids=products[:3]), at
                ),
            ]
            who = Visitor(visitor_id=visitor_id, user_id=user_id)
            for _ in range(2):  # A retry counts once.
                await client.track_events(who, events, timeout_s=PATIENCE_S)
            tracked.extend(each.event_id for each in events)
            impressions += 1
            done.setdefault(key, []).extend(
                [
                    ("view-product", at, product_id, "", "", 0),
                    ("search", at, "", "", f"q {turn} ünï", 0),
                    ("view-category", at + 1, "", "A > B", "", 0),
                    ("purchase", at + 2, product_id, "", "", 2),
                ]
            )

    with open_shop(world, stack, tmp_path, store) as shop:
        # The second visit is received later and happened earlier.
        for since in (start, start - DAY_S):
            with shop.gateway() as (_, address):
                async with AsyncShopIntentClient(address, insecure=True) as client:
                    await asyncio.gather(*(visit(client, n, since) for n in range(12)))
                await shop.wait_for_log(set(tracked))
            if since == start:
                shop.finish_day()
        dataset = prepare_events(str(shop.log), tmp_path / "prepared")
    keyring = read_keyring(shop.keys)
    columns = ("event_type", "event_time", "product_id", "category", "search_query", "quantity")
    prepared: dict[str, list[tuple[Any, ...]]] = {}
    for shopper, *event in dataset.events().select("shopper_id", *columns).collect().iter_rows():
        prepared.setdefault(shopper, []).append(tuple(event))
    assert prepared == {
        keyring.pseudonym(key): sorted(events, key=lambda event: event[1])
        for key, events in done.items()
    }
    report = dataset.report()
    assert report["apart"]["impressions"] == impressions
    assert report["apart"]["logins"] == 4
    assert sum(report["dropped"].values()) == 0


def a_shelf(world: World) -> tuple[str, list[str]]:
    """Returns a small category, and its products in stock."""
    products = [each for each in world.dataset.products() if each.in_stock and each.categories]
    counts = Counter(each.categories[0] for each in products)
    large_enough = [each for each in counts if counts[each] > VIEWS]
    category = min(large_enough, key=lambda each: counts[each])
    shelf = [each.product_id for each in products if each.categories[0] == category]
    return category, shelf


def view(product_id: str, *, at: float | None = None) -> UserEvent:
    """Returns a view with an id of its own."""
    return named(UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=product_id), at)


def named(event: UserEvent, at: float | None = None) -> UserEvent:
    """Gives an event an id of its own, and a time."""
    event.event_id = str(uuid.uuid4())
    if at is not None:
        event.event_time.CopyFrom(Timestamp(seconds=int(at)))
    return event
