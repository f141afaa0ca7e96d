"""Traffic: several releases at once, each request answered wholly by one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shopintent.artifacts.routing import Routing, Share
from shopintent.server.config import Config
from shopintent.server.errors import ReleaseMismatch
from shopintent.server.serving import ServingRelease
from shopintent.server.traffic import Traffic
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.user_event_pb2 import Visitor
from support.server import Outside, eventually, make_outside, open_release, served_by

SHOPPERS = [f"s{number}" for number in range(40)]


@dataclass
class Shop:
    """Fakes of several releases, by id; those in `refused` may not take traffic."""

    folder: Path
    outsides: dict[str, Outside]
    refused: set[str]
    closed: list[str]

    async def open(self, release_id: str) -> ServingRelease:
        if release_id not in self.outsides:
            self.outsides[release_id] = make_outside(self.folder / release_id, release_id)
        opened = open_release(Config(), self.outsides[release_id])
        await opened.monitor.check()

        async def close() -> None:
            self.closed.append(release_id)

        return replace(opened, close=close)

    async def prove(self, release: ServingRelease) -> None:
        if release.release_id in self.refused:
            raise ReleaseMismatch(release.release_id, "golden requests", "they differ")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, {}, set(), [])


async def traffic_of(shop: Shop, routing: Routing) -> Traffic:
    """Returns traffic that begins with r1 and has followed the routing as far as it can."""
    first = await shop.open("r1")
    traffic = Traffic(first, Routing("r1"), open_release=shop.open, prove=shop.prove, retry_s=0.01)
    traffic.follow(routing)
    await settled(traffic)
    return traffic


async def settled(traffic: Traffic) -> None:
    def known() -> set[str]:
        return {each.release_id for each in traffic.ready} | traffic.refused.keys()

    await until(lambda: traffic.routing.named <= known())


async def answered_by(traffic: Traffic, shopper: str) -> str:
    async with served_by(traffic) as served:
        answer = await served.recommendation.PredictIntent(asked_by(shopper))
        return str(answer.model.release_id)


def asked_by(shopper: str) -> pb.PredictIntentRequest:
    return pb.PredictIntentRequest(visitor=Visitor(visitor_id=shopper))


async def test_every_shopper_is_answered_by_the_release_that_the_routing_says(shop: Shop) -> None:
    routing = Routing("r1", canary=Share("r2", 50.0))
    traffic = await traffic_of(shop, routing)
    async with served_by(traffic) as served:
        for shopper in SHOPPERS:
            answer = await served.recommendation.PredictIntent(asked_by(shopper))
            assert answer.model.release_id == routing.release_for(f"visitor:{shopper}")
            assert answer.model.model_name == f"intent_{answer.model.release_id}"


async def test_a_release_that_is_refused_takes_no_traffic_and_the_reason_is_kept(
    shop: Shop,
) -> None:
    shop.refused.add("r2")
    traffic = await traffic_of(shop, Routing("r2"))
    assert traffic.serving.release_id == "r1"
    assert "golden requests" in traffic.refused["r2"]
    assert "r2" in shop.closed
    shop.refused.clear()
    await until(lambda: traffic.serving.release_id == "r2")
    assert traffic.refused == {}


async def test_a_promoted_release_answers_and_the_one_before_is_kept_ready(shop: Shop) -> None:
    traffic = await traffic_of(shop, Routing("r2", previous="r1"))
    assert await answered_by(traffic, "s1") == "r2"
    traffic.follow(Routing("r1", previous="r2"))
    assert await answered_by(traffic, "s1") == "r1"
    assert shop.closed == []


async def test_a_release_that_is_named_no_longer_is_closed_after_its_last_answer(
    shop: Shop,
) -> None:
    traffic = await traffic_of(shop, Routing("r2"))
    model = shop.outsides["r2"].model
    model.delay_s = 0.6
    async with served_by(traffic) as served:
        call = served.recommendation.PredictIntent(asked_by("s1"))
        await model.asked.wait()
        traffic.follow(Routing("r3"))
        await settled(traffic)
        assert "r2" not in shop.closed
        assert (await call).model.release_id == "r2"
    await until(lambda: "r2" in shop.closed)


async def test_the_serving_release_stands_in_for_a_canary_that_fails(shop: Shop) -> None:
    traffic = await traffic_of(shop, Routing("r1", canary=Share("r2", 100.0)))
    shop.outsides["r2"].model.down = True
    assert await answered_by(traffic, "s1") == "r1"
    assert next(each for each in traffic.ready if each.release_id == "r2").stats.summary().errors


async def test_a_slow_canary_leaves_the_serving_release_time_to_answer(shop: Shop) -> None:
    traffic = await traffic_of(shop, Routing("r1", canary=Share("r2", 100.0)))
    shop.outsides["r2"].model.delay_s = 30.0
    assert await answered_by(traffic, "s1") == "r1"


async def test_a_shadow_is_asked_the_same_and_answers_nobody(shop: Shop) -> None:
    traffic = await traffic_of(shop, Routing("r1", shadow=Share("r2", 100.0)))
    assert await answered_by(traffic, "s1") == "r1"
    shadow, serving = shop.outsides["r2"].model, shop.outsides["r1"].model
    await until(lambda: len(shadow.behaviors) == len(serving.behaviors) == 1)


async def test_a_shadow_that_fails_is_nobodys_business(shop: Shop) -> None:
    traffic = await traffic_of(shop, Routing("r1", shadow=Share("r2", 100.0)))
    shop.outsides["r2"].model.down = True
    for shopper in SHOPPERS:
        assert await answered_by(traffic, shopper) == "r1"


async def test_when_nothing_can_answer_the_failure_is_the_serving_releases(shop: Shop) -> None:
    traffic = await traffic_of(shop, Routing("r1", canary=Share("r2", 100.0)))
    for outside in shop.outsides.values():
        outside.model.down = True
    with pytest.raises(Exception, match="intent_r1"):
        await answered_by(traffic, "s1")


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds)
