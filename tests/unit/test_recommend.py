"""Recommend, from a cold start to a dead index, through a server in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shopintent.behavior.vocabulary import stranger
from shopintent.server.sessions import EMPTY_HISTORY, Counted
from shopintent.v1 import event_service_pb2 as event_pb
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import AVAILABILITY_IN_STOCK, PRODUCT_VIEW_FULL
from shopintent.v1.user_event_pb2 import (
    EVENT_TYPE_SEARCH,
    EVENT_TYPE_VIEW_PRODUCT,
    UserEvent,
    Visitor,
)
from support import shop as shops
from support.server import Served, make_outside, serving

ANNA = Visitor(visitor_id="anna")
PERSONALIZED = pb.RECOMMENDATION_SOURCE_PERSONALIZED
POPULAR = pb.RECOMMENDATION_SOURCE_POPULAR
TRENDING = pb.RECOMMENDATION_SOURCE_TRENDING


def view(product_id: str = "p8") -> UserEvent:
    return UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=product_id)


def search(text: str) -> UserEvent:
    return UserEvent(event_type=EVENT_TYPE_SEARCH, search_query=text)


def ids(answer: pb.RecommendResponse) -> list[str]:
    return [each.product.id for each in answer.recommendations]


def sources(answer: pb.RecommendResponse) -> set[int]:
    return {each.source for each in answer.recommendations}


def nearest_to(served: Served, product_id: str) -> list[str]:
    """Returns the products in stock, nearest first, without the product itself."""
    products = served.outside.index.products
    target = products[product_id].embedding
    others = [p for p in products.values() if p.product.in_stock]
    ordered = sorted(others, key=lambda each: -float(each.embedding @ target))
    return [p.product.product_id for p in ordered if p.product.product_id != product_id]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(make_outside(tmp_path)) as served:
        yield served


COLD_STARTS = {
    "nobody": pb.RecommendRequest(),
    "an unknown visitor": pb.RecommendRequest(visitor=ANNA),
    "an unknown session": pb.RecommendRequest(visitor=Visitor(session_id="s")),
}


@pytest.mark.parametrize("name", COLD_STARTS)
async def test_a_cold_start_gets_popular_products_and_nothing_is_degraded(
    served: Served, name: str
) -> None:
    answer = await served.recommendation.Recommend(COLD_STARTS[name])
    assert len(answer.recommendations) == 20
    assert sources(answer) == {POPULAR}
    assert list(answer.degraded_reasons) == []
    assert answer.model == pb.ModelInfo(release_id="r1")
    scores = [each.score for each in answer.recommendations]
    assert scores == sorted(scores, reverse=True)


async def test_recent_events_make_the_answer_personal(served: Served) -> None:
    answer = await served.recommendation.Recommend(
        pb.RecommendRequest(recent_events=[view("p8")], page_size=5)
    )
    assert ids(answer) == nearest_to(served, "p8")[:5]
    assert sources(answer) == {PERSONALIZED}
    assert answer.model == pb.ModelInfo(release_id="r1", model_name="intent_r1", model_version="1")


@pytest.mark.parametrize("visitor", [ANNA, Visitor(session_id="s")])
async def test_a_tracked_event_changes_the_very_next_answer(
    served: Served, visitor: Visitor
) -> None:
    request = pb.RecommendRequest(visitor=visitor, page_size=5)
    assert sources(await served.recommendation.Recommend(request)) == {POPULAR}
    await served.events.TrackEvents(
        event_pb.TrackEventsRequest(visitor=visitor, events=[view("p8")])
    )
    assert ids(await served.recommendation.Recommend(request)) == nearest_to(served, "p8")[:5]
    await served.events.TrackEvents(
        event_pb.TrackEventsRequest(visitor=visitor, events=[view("p9")])
    )
    expected = [each for each in nearest_to(served, "p9") if each != "p8"]
    assert ids(await served.recommendation.Recommend(request)) == expected[:5]


async def test_recent_events_are_not_recorded(served: Served) -> None:
    await served.recommendation.Recommend(pb.RecommendRequest(visitor=ANNA, recent_events=[view()]))
    await served.recommendation.PredictIntent(
        pb.PredictIntentRequest(visitor=ANNA, recent_events=[view()])
    )
    assert await served.outside.sessions.recent("visitor:anna") is EMPTY_HISTORY


async def test_seen_products_are_left_out_unless_asked_for(served: Served) -> None:
    request = pb.RecommendRequest(recent_events=[view("p8")], page_size=100)
    assert "p8" not in ids(await served.recommendation.Recommend(request))
    request.filter.seen_products_included = True
    assert ids(await served.recommendation.Recommend(request))[0] == "p8"


async def test_excluded_products_never_come_not_even_as_fallback(served: Served) -> None:
    request = pb.RecommendRequest(page_size=100)
    excluded = ids(await served.recommendation.Recommend(request))[:3]
    request.filter.excluded_product_ids.extend(excluded)
    for events in ([], [view("p8")]):
        request.ClearField("recent_events")
        request.recent_events.extend(events)
        assert set(excluded).isdisjoint(ids(await served.recommendation.Recommend(request)))


async def test_the_filter_holds_for_personal_and_popular_products(served: Served) -> None:
    for events in ([], [view("p8")]):
        request = pb.RecommendRequest(
            recent_events=events,
            page_size=100,
            view=PRODUCT_VIEW_FULL,
            filter=pb.ProductFilter(categories=["Garden"], maximum_price=10),
        )
        answer = await served.recommendation.Recommend(request)
        assert answer.recommendations
        for each in answer.recommendations:
            assert any(path.startswith("Garden >") for path in each.product.categories)
            assert each.product.price.units <= 10
            assert each.product.availability == AVAILABILITY_IN_STOCK


async def test_personal_products_are_not_filled_up_with_popular_ones(served: Served) -> None:
    request = pb.RecommendRequest(
        recent_events=[view("p8")],
        filter=pb.ProductFilter(categories=["Garden > Chairs > Folding"]),
    )
    answer = await served.recommendation.Recommend(request)
    assert 0 < len(answer.recommendations) < 20
    assert sources(answer) == {PERSONALIZED}


@pytest.mark.parametrize(("asked", "given"), [(0, 20), (1, 1), (100, 34), (2_000_000_000, 34)])
async def test_the_page_size_has_a_default_and_a_maximum(
    served: Served, asked: int, given: int
) -> None:
    # 34 of the 40 products are in stock.
    answer = await served.recommendation.Recommend(pb.RecommendRequest(page_size=asked))
    assert len(answer.recommendations) == given


async def test_only_the_id_is_returned_unless_the_view_is_full(served: Served) -> None:
    request = pb.RecommendRequest(recent_events=[view()], page_size=3)
    short = await served.recommendation.Recommend(request)
    assert all(len(each.product.ListFields()) == 1 for each in short.recommendations)
    request.view = PRODUCT_VIEW_FULL
    full = await served.recommendation.Recommend(request)
    assert ids(full) == ids(short)
    assert all(each.product.title for each in full.recommendations)


async def test_attribution_tokens_are_short_and_never_the_same(served: Served) -> None:
    answers = [await served.recommendation.Recommend(pb.RecommendRequest()) for _ in range(3)]
    answers.append(await served.recommendation.PredictIntent(pb.PredictIntentRequest()))
    longest = (("x-request-id", "x" * 64),)
    answers.append(await served.recommendation.Recommend(pb.RecommendRequest(), metadata=longest))
    tokens = [each.attribution_token for each in answers]
    assert len(set(tokens)) == len(tokens)
    assert all(0 < len(token) <= 200 for token in tokens)


async def test_popular_products_stand_in_when_the_model_is_down(served: Served) -> None:
    served.outside.model.down = True
    answer = await served.recommendation.Recommend(pb.RecommendRequest(recent_events=[view()]))
    assert len(answer.recommendations) == 20
    assert sources(answer) == {POPULAR}
    assert "p8" not in ids(answer)
    assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_MODEL_UNAVAILABLE]
    assert answer.model == pb.ModelInfo(release_id="r1")


async def test_popular_products_of_what_was_seen_stand_in_first(served: Served) -> None:
    served.outside.model.down = True
    categories = {
        each.product.product_id: each.product.categories
        for each in served.outside.index.products.values()
    }
    request = pb.RecommendRequest(recent_events=[view("p8")])
    answer = await served.recommendation.Recommend(request)
    of_the_shelf = [categories["p8"] == categories[product_id] for product_id in ids(answer)]
    n_alike = sum(of_the_shelf)
    assert n_alike > 3
    assert of_the_shelf[:3] == [True, True, True]
    cold = await served.recommendation.Recommend(pb.RecommendRequest())
    assert [categories["p8"] == categories[each] for each in ids(cold)[:3]] != [True, True, True]


@pytest.mark.events
async def test_a_cold_start_shows_what_is_trending_between_what_is_popular(served: Served) -> None:
    now = int(time.time())
    counters = served.app.traffic.serving.popular.popularity
    for product_id in ("p8", "p9", "p10", "p11", "p12"):
        counters.count([Counted("view-product", now - 2 * 24 * 3600, product_id)] * 3_000)
    counters.count([Counted("view-product", now, "p38")] * 100)
    served.outside.model.down = True
    for events in ([], [view("p10")]):
        answer = await served.recommendation.Recommend(pb.RecommendRequest(recent_events=events))
        assert [each.product.id for each in answer.recommendations if each.source == TRENDING] == [
            "p38"
        ]
        assert answer.recommendations[3].product.id == "p38"
        assert sources(answer) == {TRENDING, POPULAR}
        scores = [each.score for each in answer.recommendations]
        assert scores == sorted(scores, reverse=True)


async def test_popular_products_stand_in_when_the_index_is_down(served: Served) -> None:
    served.outside.index.down = True
    answer = await served.recommendation.Recommend(pb.RecommendRequest(recent_events=[view()]))
    assert len(answer.recommendations) == 20
    assert sources(answer) == {POPULAR}
    assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_INDEX_UNAVAILABLE]
    assert answer.model == pb.ModelInfo(release_id="r1")


async def test_a_slow_model_leads_to_the_fallback_before_the_callers_deadline(
    served: Served,
) -> None:
    served.outside.model.delay_s = 30
    request = pb.RecommendRequest(recent_events=[view()])
    answer = await served.recommendation.Recommend(request, timeout=0.5)
    assert sources(answer) == {POPULAR}
    assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_MODEL_UNAVAILABLE]


async def test_a_caller_without_a_deadline_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path), answer_timeout_s=0.1) as served:
        served.outside.model.delay_s = 3600
        request = pb.RecommendRequest(recent_events=[view()])
        answer = await served.recommendation.Recommend(request)
        assert sources(answer) == {POPULAR}


async def test_a_caller_who_gives_up_stops_the_work(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path), answer_timeout_s=3600.0) as served:
        served.outside.model.delay_s = 3600
        call = served.recommendation.Recommend(pb.RecommendRequest(recent_events=[view()]))
        await served.outside.model.asked.wait()
        call.cancel()
        await asyncio.wait_for(served.outside.model.cancelled.wait(), timeout=10)


async def test_a_query_that_can_not_be_encoded_is_named_and_the_rest_counts(
    served: Served,
) -> None:
    served.outside.encoder.down = True
    request = pb.RecommendRequest(recent_events=[view("p8"), search("red chair")], page_size=3)
    answer = await served.recommendation.Recommend(request)
    assert ids(answer) == nearest_to(served, "p8")[:3]
    assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_TEXT_ENCODER_UNAVAILABLE]
    served.outside.encoder.down = False
    answer = await served.recommendation.Recommend(request)
    assert list(answer.degraded_reasons) == []
    assert served.outside.model.behaviors[-1].tokens[1, 2:5].all()


async def test_a_query_is_encoded_once(served: Served) -> None:
    request = pb.RecommendRequest(recent_events=[search("red chair"), search("red chair")])
    for _ in range(3):
        await served.recommendation.Recommend(request)
    assert served.outside.encoder.texts == ["red chair"]


async def test_a_product_unseen_in_training_counts_by_its_content(served: Served) -> None:
    # p35 is in the catalog but not in the vocabulary.
    await served.recommendation.PredictIntent(pb.PredictIntentRequest(recent_events=[view("p35")]))
    row = served.outside.model.behaviors[-1].tokens[0]
    assert row[1] == stranger("p35")
    assert row[2:-1].tolist() == served.outside.index.products["p35"].content.tolist()


async def test_a_placement_may_rank_popular_products_higher(tmp_path: Path) -> None:
    placements = tmp_path / "placements.toml"
    placements.write_text("[cart]\nsimilarity = 0.0\npopularity = 1.0\n")
    async with serving(make_outside(tmp_path / "root"), placements=placements) as served:

        async def page(placement: str) -> list[str]:
            request = pb.RecommendRequest(
                recent_events=[view("p8")], placement=placement, page_size=8
            )
            return ids(await served.recommendation.Recommend(request))

        assert await page("home") == await page("") == await page("product-detail")
        assert await page("home") == nearest_to(served, "p8")[:8]
        order = list(served.outside.index.products)
        positions = [order.index(product_id) for product_id in await page("cart")]
        assert positions == sorted(positions)
        assert len(positions) == 8


async def test_events_are_read_by_time_whatever_their_order(served: Served) -> None:
    now = int(time.time())
    events = [replace_time(view("p9"), now - 5), replace_time(view("p8"), now - 60)]
    for ordered in (events, events[::-1]):
        await served.recommendation.PredictIntent(pb.PredictIntentRequest(recent_events=ordered))
    first, second = served.outside.model.behaviors
    assert (first.tokens == second.tokens).all()
    assert first.event_times[:2].tolist() == [now - 60, now - 5]


async def test_only_the_newest_events_are_read_when_there_are_more_than_the_model_takes(
    served: Served,
) -> None:
    now = int(time.time())
    events = [replace_time(view(f"p{5 + each % 20}"), now - 100 + each) for each in range(50)]
    await served.recommendation.PredictIntent(pb.PredictIntentRequest(recent_events=events))
    read = served.outside.model.behaviors[-1].event_times
    assert read.tolist() == [now - 100 + each for each in range(34, 50)]


async def test_the_time_of_a_request_is_never_before_its_events(served: Served) -> None:
    ahead = int(time.time()) + 240
    request = pb.PredictIntentRequest(recent_events=[replace_time(view(), ahead)])
    await served.recommendation.PredictIntent(request)
    await served.recommendation.PredictIntent(pb.PredictIntentRequest())
    with_events, without = served.outside.model.request_times
    assert with_events == ahead
    assert without < ahead


def replace_time(event: UserEvent, seconds: int) -> UserEvent:
    event.event_time.seconds = seconds
    return event


async def test_a_product_without_text_price_or_category_is_recommended(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    bare = replace(
        shops.indexed(shops.products(1))[0],
        product=type(shops.products(1)[0])("bare"),
        embedding=outside.index.products["p8"].embedding,
    )
    outside.index.products["bare"] = bare
    async with serving(outside) as served:
        request = pb.RecommendRequest(
            recent_events=[view("p8")], page_size=1, view=PRODUCT_VIEW_FULL
        )
        answer: Any = await served.recommendation.Recommend(request)
        assert ids(answer) == ["bare"]
        assert not answer.recommendations[0].product.HasField("price")
