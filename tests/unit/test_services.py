"""PredictIntent, TrackEvents and the catalog, through a server in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2
from google.type import money_pb2

from shopintent.artifacts import signature
from shopintent.artifacts.event_log import IMPRESSION
from shopintent.server.errors import StateUnavailable
from shopintent.server.services.consistency_token import consistency_token
from shopintent.server.sessions import EMPTY_HISTORY, TrackedEvent
from shopintent.v1 import catalog_service_pb2 as catalog_pb
from shopintent.v1 import event_service_pb2 as event_pb
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import (
    AVAILABILITY_IN_STOCK,
    AVAILABILITY_OUT_OF_STOCK,
    PRODUCT_VIEW_FULL,
    Product,
)
from shopintent.v1.user_event_pb2 import (
    EVENT_TYPE_ADD_TO_CART,
    EVENT_TYPE_FAVORITE,
    EVENT_TYPE_IMPRESSION,
    EVENT_TYPE_PURCHASE,
    EVENT_TYPE_SEARCH,
    EVENT_TYPE_VIEW_CATEGORY,
    EVENT_TYPE_VIEW_PRODUCT,
    UserEvent,
    Visitor,
)
from support.counting import count_of
from support.server import Served, eventually, failure_of, make_outside, serving

ANNA = Visitor(visitor_id="anna")


def view(product_id: str, event_id: str = "") -> UserEvent:
    return UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=product_id, event_id=event_id)


def track(*events: UserEvent, visitor: Visitor = ANNA) -> event_pb.TrackEventsRequest:
    return event_pb.TrackEventsRequest(visitor=visitor, events=events)


def update(*products: Product, mask: tuple[str, ...] = ()) -> catalog_pb.BatchUpdateProductsRequest:
    return catalog_pb.BatchUpdateProductsRequest(
        products=products, update_mask=field_mask_pb2.FieldMask(paths=mask)
    )


async def get(served: Served, product_id: str) -> Product:
    request = catalog_pb.GetProductRequest(product_id=product_id)
    answer: catalog_pb.GetProductResponse = await served.catalog.GetProduct(request)
    return answer.product


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(make_outside(tmp_path)) as served:
        yield served


@pytest.mark.parametrize("events", [[], [view("p8")], [view("never heard of")]])
async def test_intent_is_every_action_most_likely_first(
    served: Served, events: list[UserEvent]
) -> None:
    answer = await served.recommendation.PredictIntent(
        pb.PredictIntentRequest(recent_events=events)
    )
    probabilities = [each.probability for each in answer.next_actions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    actions = {each.action for each in answer.next_actions}
    assert actions == set(served.outside.release.manifest.actions)
    horizons = [each.horizon.seconds for each in answer.purchases]
    assert horizons == [3600, 86400]
    assert answer.visit_purchase_probability == 0.25
    assert answer.expected_time_to_purchase.ToTimedelta() == timedelta(seconds=5_400.25)
    assert answer.expected_quantity == 2.5


OPTIONAL_FIELDS = {
    signature.VISIT_PURCHASE_PROBABILITY: "visit_purchase_probability",
    signature.EXPECTED_TIME_TO_PURCHASE_S: "expected_time_to_purchase",
    signature.EXPECTED_QUANTITY: "expected_quantity",
}


@pytest.mark.parametrize("given", [(), *((name,) for name in signature.OPTIONAL_ANSWERS)])
async def test_what_the_release_does_not_predict_stays_unset(
    tmp_path: Path, given: tuple[str, ...]
) -> None:
    outside = make_outside(tmp_path)
    manifest = replace(outside.release.manifest, answers=given)
    release = replace(outside.release, manifest=manifest)
    async with serving(replace(outside, release=release)) as served:
        answer = await served.recommendation.PredictIntent(pb.PredictIntentRequest())
    filled = {name for name, field in OPTIONAL_FIELDS.items() if answer.HasField(field)}
    assert filled == set(given)


async def test_units_reach_the_model_where_an_event_is_about_units(served: Served) -> None:
    bought = UserEvent(event_type=EVENT_TYPE_PURCHASE, product_id="p8", quantity=12)
    seen = UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id="p8", quantity=3)
    one = UserEvent(event_type=EVENT_TYPE_ADD_TO_CART, product_id="p8")
    await served.events.TrackEvents(track(bought))
    request = pb.PredictIntentRequest(visitor=ANNA, recent_events=[seen, one])
    await served.recommendation.PredictIntent(request)
    assert served.outside.model.behaviors[-1].tokens[:, -1].tolist() == [12, 0, 1]


async def test_intent_has_no_fallback_when_the_model_is_down(served: Served) -> None:
    served.outside.model.down = True
    failure = await failure_of(served.recommendation.PredictIntent(pb.PredictIntentRequest()))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.info.reason == "ERROR_REASON_MODEL_UNAVAILABLE"
    assert dict(failure.info.metadata) == {"modelName": "intent_r1"}
    assert failure.retry_delay_s == 1.0


async def test_intent_needs_no_index(served: Served) -> None:
    served.outside.index.down = True
    request = pb.PredictIntentRequest(recent_events=[view("p8"), view("p35")])
    answer = await served.recommendation.PredictIntent(request)
    assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_INDEX_UNAVAILABLE]
    known = pb.PredictIntentRequest(recent_events=[view("p8")])
    answer = await served.recommendation.PredictIntent(known)
    assert list(answer.degraded_reasons) == []


async def test_tracked_and_recent_events_count_together(served: Served) -> None:
    await served.events.TrackEvents(track(view("p8")))
    await served.recommendation.PredictIntent(
        pb.PredictIntentRequest(visitor=ANNA, recent_events=[view("p9")])
    )
    lookup = served.outside.release.tokenizer.products.lookup
    read = served.outside.model.behaviors[-1].tokens[:, 1].tolist()
    assert read == [lookup("p8"), lookup("p9")]


async def test_a_visitor_and_a_session_of_the_same_name_are_two(served: Served) -> None:
    await served.events.TrackEvents(track(view("p8"), visitor=Visitor(visitor_id="x")))
    await served.events.TrackEvents(
        track(view("p9"), visitor=Visitor(visitor_id="x", session_id="x"))
    )
    assert len((await served.outside.sessions.recent("visitor:x")).events) == 2
    assert await served.outside.sessions.recent("session:x") is EMPTY_HISTORY


async def counted(served: Served, product_id: str) -> float:
    """Returns how many views of a product are counted, once all that was tracked is."""
    await served.events.TrackEvents(track(view("p38"), visitor=Visitor(visitor_id="the last")))
    counts = served.app.traffic.serving.popular.popularity.popular

    async def is_the_last_counted() -> bool:
        return "p38" in counts.values

    await eventually(is_the_last_counted)
    return count_of(counts, product_id, time.time())


async def test_a_shopper_who_logs_in_is_joined_with_what_was_done_before(served: Served) -> None:
    await served.events.TrackEvents(track(view("p8")))
    await served.events.TrackEvents(track(view("p9"), visitor=Visitor(user_id="u7")))
    both = Visitor(visitor_id="anna", user_id="u7", session_id="not read")
    await served.events.TrackEvents(track(view("p10"), visitor=both))
    lookup = served.outside.release.tokenizer.products.lookup
    for visitor in (ANNA, Visitor(user_id="u7"), both):
        await served.recommendation.PredictIntent(pb.PredictIntentRequest(visitor=visitor))
        read = served.outside.model.behaviors[-1].tokens[:, 1].tolist()
        assert sorted(read) == sorted(lookup(each) for each in ("p8", "p9", "p10"))


async def test_everything_told_of_an_event_reaches_the_store(served: Served) -> None:
    appended: list[TrackedEvent] = []
    append = served.outside.sessions.append

    async def keep(visitor: str, events: Any, **options: Any) -> Any:
        appended.extend(events)
        return await append(visitor, events, **options)

    served.outside.sessions.append = keep  # type: ignore[method-assign]
    why: dict[str, Any] = {"attribution_token": "t", "experiment_ids": ["e/1", "f/2"]}
    shown = UserEvent(
        event_type=EVENT_TYPE_IMPRESSION, shown_product_ids=["p9", "p8"], event_id="i", **why
    )
    seen = UserEvent(
        event_type=EVENT_TYPE_VIEW_PRODUCT, product_id="p8", shown_product_ids=["no"], **why
    )
    await served.events.TrackEvents(track(shown, seen))
    first, second = appended
    assert (first.event.event_type, first.event.product_id) == (IMPRESSION, "")
    assert (first.event_id, first.shown_product_ids) == ("i", ("p9", "p8"))
    assert second.shown_product_ids == ()
    for each in appended:
        assert (each.attribution_token, each.experiment_ids) == ("t", ("e/1", "f/2"))


async def test_impressions_are_recorded_once_and_are_no_behavior(served: Served) -> None:
    shown = UserEvent(
        event_type=EVENT_TYPE_IMPRESSION, shown_product_ids=["new-1", "p8"], event_id="i"
    )
    first = await served.events.TrackEvents(track(shown))
    again = await served.events.TrackEvents(track(shown))
    assert (first.recorded_count, again.recorded_count) == (1, 0)
    assert list(first.unknown_product_ids) == []
    request = pb.PredictIntentRequest(visitor=ANNA, recent_events=[shown])
    await served.recommendation.PredictIntent(request)
    assert len(served.outside.model.behaviors[-1].tokens) == 0


async def test_a_consistency_token_is_good_for_everything_recorded_until_then(
    served: Served,
) -> None:
    token = (await served.events.TrackEvents(track(view("p8")))).consistency_token
    assert 0 < len(token) <= 200
    answers = (
        served.recommendation.PredictIntent(
            pb.PredictIntentRequest(visitor=ANNA, consistency_token=token)
        ),
        served.recommendation.Recommend(pb.RecommendRequest(visitor=ANNA, consistency_token=token)),
    )
    for answer in answers:
        assert not (await answer).degraded_reasons


LOST = [pb.DEGRADED_REASON_BEHAVIOR_UNAVAILABLE]


async def test_behavior_that_the_store_lost_is_said_and_the_answer_goes_on_without(
    served: Served,
) -> None:
    token = (await served.events.TrackEvents(track(view("p8")))).consistency_token
    await served.outside.sessions.delete("visitor:anna", timeout_s=1)
    fields: dict[str, Any] = {"visitor": ANNA, "recent_events": [view("p9")]}
    predict = pb.PredictIntentRequest(**fields, consistency_token=token)
    intent = await served.recommendation.PredictIntent(predict)
    assert list(intent.degraded_reasons) == LOST
    recommend = pb.RecommendRequest(**fields, consistency_token=token)
    page = await served.recommendation.Recommend(recommend)
    assert list(page.degraded_reasons) == LOST
    assert {each.source for each in page.recommendations} == {pb.RECOMMENDATION_SOURCE_PERSONALIZED}


async def test_a_token_of_a_store_that_was_replaced_is_a_lost_one(served: Served) -> None:
    token = consistency_token("another kind of store 7")
    request = pb.PredictIntentRequest(visitor=ANNA, consistency_token=token)
    answer = await served.recommendation.PredictIntent(request)
    assert list(answer.degraded_reasons) == LOST


@pytest.mark.parametrize("events", [[], [view("p9")]])
async def test_recommend_goes_on_without_the_sessions_and_predict_intent_fails(
    served: Served, events: list[UserEvent]
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise StateUnavailable("sessions", "the disk is full")

    served.outside.sessions.recent = fail  # type: ignore[method-assign]
    page = await served.recommendation.Recommend(
        pb.RecommendRequest(visitor=ANNA, recent_events=events, page_size=5)
    )
    assert len(page.recommendations) == 5
    assert list(page.degraded_reasons) == LOST
    is_personal = page.recommendations[0].source == pb.RECOMMENDATION_SOURCE_PERSONALIZED
    assert is_personal == bool(events)
    failure = await failure_of(
        served.recommendation.PredictIntent(
            pb.PredictIntentRequest(visitor=ANNA, recent_events=events)
        )
    )
    assert failure.info.reason == "ERROR_REASON_STATE_UNAVAILABLE"


async def test_a_retried_batch_is_recorded_and_counted_once(served: Served) -> None:
    request = track(view("p39", "e1"), view("p39", "e2"))
    first = await served.events.TrackEvents(request)
    again = await served.events.TrackEvents(request)
    assert (first.recorded_count, again.recorded_count) == (2, 0)
    assert len((await served.outside.sessions.recent("visitor:anna")).events) == 2
    assert await counted(served, "p39") == pytest.approx(2, rel=0.01)


async def test_new_events_of_a_partly_repeated_batch_are_counted(served: Served) -> None:
    await served.events.TrackEvents(track(view("p39", "e1")))
    answer = await served.events.TrackEvents(track(view("p39", "e1"), view("p39", "e2")))
    assert answer.recorded_count == 1
    assert await counted(served, "p39") == pytest.approx(2, rel=0.01)


async def test_products_that_the_catalog_does_not_know_are_recorded_and_named(
    served: Served,
) -> None:
    request = track(view("p8"), view("new-2"), view("new-1"), view("new-2"), view("p35"))
    answer = await served.events.TrackEvents(request)
    assert answer.recorded_count == 5
    assert list(answer.unknown_product_ids) == ["new-2", "new-1"]
    await served.catalog.BatchUpdateProducts(update(Product(id="new-1")))
    answer = await served.events.TrackEvents(request)
    assert list(answer.unknown_product_ids) == ["new-2"]


async def test_tracking_succeeds_while_everything_else_is_down(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    outside.index.down = outside.encoder.down = outside.repository.down = True
    async with serving(outside) as served:
        search = UserEvent(event_type=EVENT_TYPE_SEARCH, search_query="red chair")
        answer = await served.events.TrackEvents(track(view("p35"), search))
        assert answer.recorded_count == 2
        assert list(answer.unknown_product_ids) == []


async def test_only_the_fields_of_its_type_are_kept_of_an_event(served: Served) -> None:
    everything = {"product_id": "p8", "category": "Garden", "search_query": "red chair"}
    types = (EVENT_TYPE_FAVORITE, EVENT_TYPE_SEARCH, EVENT_TYPE_VIEW_CATEGORY)
    await served.events.TrackEvents(
        track(*(UserEvent(event_type=each, **everything) for each in types))  # type: ignore[arg-type]
    )
    kept = await served.outside.sessions.recent("visitor:anna")
    found = [(each.product_id, each.search_query, each.category) for each in kept.events]
    assert found == [("p8", "", ""), ("", "red chair", ""), ("", "", "Garden")]


async def test_purchases_make_a_product_popular_within_seconds(served: Served) -> None:
    bought = UserEvent(event_type=EVENT_TYPE_PURCHASE, product_id="p39")
    await served.events.TrackEvents(track(*[bought] * 100))

    async def is_most_popular() -> bool:
        answer = await served.recommendation.Recommend(pb.RecommendRequest(page_size=1))
        return str(answer.recommendations[0].product.id) == "p39"

    await eventually(is_most_popular)


async def test_a_new_product_is_recommendable_from_the_next_request_on(served: Served) -> None:
    written = Product(
        id="new",
        title="Red chair",
        categories=["Garden > Chairs"],
        price=money_pb2.Money(units=19, nanos=990_000_000, currency_code="EUR"),
    )
    answer = await served.catalog.BatchUpdateProducts(update(written))
    written.availability = AVAILABILITY_IN_STOCK
    assert list(answer.products) == [written]
    assert await get(served, "new") == written
    page = await served.recommendation.Recommend(
        pb.RecommendRequest(recent_events=[view("p8")], page_size=100)
    )
    assert "new" in [each.product.id for each in page.recommendations]


async def test_a_mask_keeps_the_other_fields_and_no_mask_clears_them(served: Served) -> None:
    before = await get(served, "p8")
    await served.catalog.BatchUpdateProducts(update(Product(id="p8", title="T"), mask=("title",)))
    expected = Product()
    expected.CopyFrom(before)
    expected.title = "T"
    assert await get(served, "p8") == expected
    await served.catalog.BatchUpdateProducts(update(Product(id="p8", brand="B")))
    cleared = Product(id="p8", brand="B", availability=AVAILABILITY_IN_STOCK)
    assert await get(served, "p8") == cleared


async def test_what_is_written_shows_in_the_popular_products_at_once(served: Served) -> None:
    popular = await served.recommendation.Recommend(pb.RecommendRequest(page_size=1))
    best = popular.recommendations[0].product.id
    renamed = Product(id=best, title="Renamed")
    await served.catalog.BatchUpdateProducts(update(renamed, mask=("title",)))
    request = pb.RecommendRequest(page_size=1, view=PRODUCT_VIEW_FULL)
    popular = await served.recommendation.Recommend(request)
    assert popular.recommendations[0].product.title == "Renamed"
    sold_out = Product(id=best, availability=AVAILABILITY_OUT_OF_STOCK)
    await served.catalog.BatchUpdateProducts(update(sold_out, mask=("availability",)))
    popular = await served.recommendation.Recommend(request)
    assert popular.recommendations[0].product.id != best


async def test_availability_changes_without_embedding_again(served: Served) -> None:
    before = served.outside.index.products["p8"]
    served.outside.encoder.down = True
    sold_out = Product(id="p8", availability=AVAILABILITY_OUT_OF_STOCK)
    await served.catalog.BatchUpdateProducts(update(sold_out, mask=("availability",)))
    after = served.outside.index.products["p8"]
    assert not after.product.in_stock
    assert (after.embedding == before.embedding).all()


@pytest.mark.parametrize(
    ("mask", "product"),
    [
        ("title", Product(id="p8", title="other")),
        ("categories", Product(id="p8", categories=["Kitchen > Pans"])),
        ("brand", Product(id="p8", brand="other")),
        ("price", Product(id="p8", price=money_pb2.Money(units=500, currency_code="EUR"))),
    ],
)
async def test_changed_content_is_embedded_again(
    served: Served, mask: str, product: Product
) -> None:
    before = served.outside.index.products["p8"]
    await served.catalog.BatchUpdateProducts(update(product, mask=(mask,)))
    after = served.outside.index.products["p8"]
    assert (after.embedding != before.embedding).any()


async def test_nothing_is_written_when_content_can_not_be_embedded(served: Served) -> None:
    served.outside.encoder.down = True
    sold_out = Product(id="p8", availability=AVAILABILITY_OUT_OF_STOCK)
    failure = await failure_of(
        served.catalog.BatchUpdateProducts(update(sold_out, Product(id="new", title="New")))
    )
    assert failure.info.reason == "ERROR_REASON_MODEL_UNAVAILABLE"
    assert served.outside.index.products["p8"].product.in_stock
    assert "new" not in served.outside.index.products


async def test_the_catalog_says_when_the_index_is_down(served: Served) -> None:
    served.outside.index.down = True
    for call in (
        served.catalog.GetProduct(catalog_pb.GetProductRequest(product_id="p8")),
        served.catalog.DeleteProduct(catalog_pb.DeleteProductRequest(product_id="p8")),
        served.catalog.BatchUpdateProducts(update(Product(id="p8"))),
    ):
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert failure.info.reason == "ERROR_REASON_INDEX_UNAVAILABLE"
        assert failure.retry_delay_s is not None


async def test_an_unknown_product_is_not_found(served: Served) -> None:
    failure = await failure_of(
        served.catalog.GetProduct(catalog_pb.GetProductRequest(product_id="none"))
    )
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.info.reason == "ERROR_REASON_PRODUCT_NOT_FOUND"
    assert dict(failure.info.metadata) == {"productId": "none"}


async def test_a_deleted_product_never_comes_again_and_deleting_twice_succeeds(
    served: Served,
) -> None:
    popular = await served.recommendation.Recommend(pb.RecommendRequest(page_size=1))
    gone = popular.recommendations[0].product.id
    for _ in range(2):
        await served.catalog.DeleteProduct(catalog_pb.DeleteProductRequest(product_id=gone))
    for events in ([], [view("p8")]):
        answer = await served.recommendation.Recommend(
            pb.RecommendRequest(recent_events=events, page_size=100)
        )
        assert gone not in [each.product.id for each in answer.recommendations]
    answer = await served.events.TrackEvents(track(view(gone)))
    assert list(answer.unknown_product_ids) == [gone]


async def test_two_updates_of_one_product_at_once_lose_neither(served: Served) -> None:
    read = served.outside.index.get

    async def slow_read(*arguments: Any, **options: Any) -> Any:
        found = await read(*arguments, **options)
        await asyncio.sleep(0.05)
        return found

    served.outside.index.get = slow_read  # type: ignore[method-assign]
    await asyncio.gather(
        served.catalog.BatchUpdateProducts(update(Product(id="p8", title="T"), mask=("title",))),
        served.catalog.BatchUpdateProducts(update(Product(id="p8", brand="B"), mask=("brand",))),
    )
    product = await get(served, "p8")
    assert (product.title, product.brand) == ("T", "B")


@pytest.mark.parametrize(
    ("units", "nanos"), [(0, 0), (20, 0), (19, 990_000_000), (1_000_000_000_000, 999_999_999)]
)
async def test_prices_come_back_exactly(served: Served, units: int, nanos: int) -> None:
    price = money_pb2.Money(units=units, nanos=nanos, currency_code="EUR")
    await served.catalog.BatchUpdateProducts(update(Product(id="p8", price=price)))
    assert (await get(served, "p8")).price == price
