"""Every bad field that the protos name, sent to a real server."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import field_mask_pb2, timestamp_pb2
from google.type import money_pb2

from shopintent.server.sessions import EMPTY_HISTORY
from shopintent.v1 import catalog_service_pb2 as catalog_pb
from shopintent.v1 import event_service_pb2 as event_pb
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import Product
from shopintent.v1.user_event_pb2 import (
    EVENT_TYPE_IMPRESSION,
    EVENT_TYPE_PURCHASE,
    EVENT_TYPE_SEARCH,
    EVENT_TYPE_VIEW_CATEGORY,
    EVENT_TYPE_VIEW_PRODUCT,
    UserEvent,
    Visitor,
)
from support.server import Served, failure_of, make_outside, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

VISITOR = Visitor(visitor_id="v")
LONG_ID = "x" * 129
FOREIGN_TOKEN = "bm8gdG9rZW4"


def at(seconds: float, nanos: int = 0) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=int(seconds), nanos=nanos)


def view(**fields: Any) -> UserEvent:
    return UserEvent(**{"event_type": EVENT_TYPE_VIEW_PRODUCT, "product_id": "p7", **fields})


def shown(*product_ids: str) -> UserEvent:
    return UserEvent(event_type=EVENT_TYPE_IMPRESSION, shown_product_ids=product_ids)


def priced(units: int = 1, nanos: int = 0, currency_code: str = "EUR") -> Product:
    price = money_pb2.Money(units=units, nanos=nanos, currency_code=currency_code)
    return Product(id="a", price=price)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """One server for all: a refused request leaves no trace."""
    async with serving(make_outside(tmp_path_factory.mktemp("releases"))) as served:
        yield served


BAD_EVENTS = {
    "no type": (UserEvent(product_id="p7"), "event_type"),
    "unknown type": (view(event_type=99), "event_type"),
    "no product": (view(product_id=""), "product_id"),
    "no product bought": (UserEvent(event_type=EVENT_TYPE_PURCHASE), "product_id"),
    "long product id": (view(product_id=LONG_ID), "product_id"),
    "long event id": (view(event_id=LONG_ID), "event_id"),
    "before 2000": (view(event_time=at(946_684_799)), "event_time"),
    "in milliseconds": (view(event_time=at(time.time() * 1000)), "event_time"),
    "a day ahead": (view(event_time=at(time.time() + 86_400)), "event_time"),
    "negative nanos": (view(event_time=at(time.time(), -1)), "event_time.nanos"),
    "no units": (view(quantity=0), "quantity"),
    "negative units": (view(quantity=-3), "quantity"),
    "too many units": (view(quantity=1_000_001), "quantity"),
    "no search text": (UserEvent(event_type=EVENT_TYPE_SEARCH), "search_query"),
    "white search text": (
        UserEvent(event_type=EVENT_TYPE_SEARCH, search_query=" \t\n"),
        "search_query",
    ),
    "1 MB of search text": (
        UserEvent(event_type=EVENT_TYPE_SEARCH, search_query="x" * 1_000_000),
        "search_query",
    ),
    "no category": (UserEvent(event_type=EVENT_TYPE_VIEW_CATEGORY), "category"),
    "long category": (
        UserEvent(event_type=EVENT_TYPE_VIEW_CATEGORY, category="x" * 1001),
        "category",
    ),
    "long attribution token": (view(attribution_token="x" * 201), "attribution_token"),
    "11 experiments": (view(experiment_ids=["e"] * 11), "experiment_ids"),
    "empty experiment": (view(experiment_ids=["e", ""]), "experiment_ids[1]"),
    "long experiment": (view(experiment_ids=[LONG_ID]), "experiment_ids[0]"),
    "nothing shown": (UserEvent(event_type=EVENT_TYPE_IMPRESSION), "shown_product_ids"),
    "101 products shown": (shown(*["p7"] * 101), "shown_product_ids"),
    "empty product shown": (shown("p7", ""), "shown_product_ids[1]"),
    "long product shown": (shown(LONG_ID), "shown_product_ids[0]"),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
async def test_every_rpc_names_the_bad_field_of_a_bad_event(served: Served, name: str) -> None:
    event, field = BAD_EVENTS[name]
    calls = {
        f"recent_events[1].{field}": [
            served.recommendation.Recommend(pb.RecommendRequest(recent_events=[view(), event])),
            served.recommendation.PredictIntent(
                pb.PredictIntentRequest(recent_events=[view(), event])
            ),
        ],
        f"events[1].{field}": [
            served.events.TrackEvents(
                event_pb.TrackEventsRequest(visitor=VISITOR, events=[view(), event])
            )
        ],
    }
    for path, failing in calls.items():
        for call in failing:
            failure = await failure_of(call)
            assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
            assert failure.info.reason == "ERROR_REASON_INVALID_REQUEST"
            assert dict(failure.info.metadata) == {}
            assert list(failure.violations) == [path]


BAD_RECOMMENDS = {
    "negative page": (pb.RecommendRequest(page_size=-1), "page_size"),
    "placement in capitals": (pb.RecommendRequest(placement="Home"), "placement"),
    "long placement": (pb.RecommendRequest(placement="x" * 65), "placement"),
    "unknown view": (pb.RecommendRequest(view=9), "view"),  # type: ignore[arg-type]
    "long visitor id": (
        pb.RecommendRequest(visitor=Visitor(visitor_id=LONG_ID)),
        "visitor.visitor_id",
    ),
    "long session id": (
        pb.RecommendRequest(visitor=Visitor(session_id=LONG_ID)),
        "visitor.session_id",
    ),
    "long user id": (pb.RecommendRequest(visitor=Visitor(user_id=LONG_ID)), "visitor.user_id"),
    "foreign token": (pb.RecommendRequest(consistency_token=FOREIGN_TOKEN), "consistency_token"),
    "long token": (pb.RecommendRequest(consistency_token="x" * 201), "consistency_token"),
    "201 events": (pb.RecommendRequest(recent_events=[view()] * 201), "recent_events"),
    "10,000 events": (pb.RecommendRequest(recent_events=[view()] * 10_000), "recent_events"),
}
BAD_FILTERS = {
    "NaN": (pb.ProductFilter(minimum_price=math.nan), "minimum_price"),
    "infinite": (pb.ProductFilter(maximum_price=math.inf), "maximum_price"),
    "minus infinity": (pb.ProductFilter(minimum_price=-math.inf), "minimum_price"),
    "negative": (pb.ProductFilter(minimum_price=-0.01), "minimum_price"),
    "maximum below minimum": (
        pb.ProductFilter(minimum_price=2, maximum_price=1),
        "maximum_price",
    ),
    "101 categories": (pb.ProductFilter(categories=["a"] * 101), "categories"),
    "long category": (pb.ProductFilter(categories=["a", "x" * 1001]), "categories[1]"),
    "empty category": (pb.ProductFilter(categories=[""]), "categories[0]"),
    "1,001 excluded": (
        pb.ProductFilter(excluded_product_ids=["a"] * 1001),
        "excluded_product_ids",
    ),
    "long excluded id": (
        pb.ProductFilter(excluded_product_ids=[LONG_ID]),
        "excluded_product_ids[0]",
    ),
}


@pytest.mark.parametrize("name", BAD_RECOMMENDS)
async def test_recommend_names_the_bad_field(served: Served, name: str) -> None:
    request, field = BAD_RECOMMENDS[name]
    failure = await failure_of(served.recommendation.Recommend(request))
    assert list(failure.violations) == [field]


async def test_predict_intent_names_a_token_that_is_none(served: Served) -> None:
    request = pb.PredictIntentRequest(consistency_token=FOREIGN_TOKEN)
    failure = await failure_of(served.recommendation.PredictIntent(request))
    assert list(failure.violations) == ["consistency_token"]


@pytest.mark.parametrize("name", BAD_FILTERS)
async def test_recommend_names_the_bad_field_of_a_filter(served: Served, name: str) -> None:
    product_filter, field = BAD_FILTERS[name]
    request = pb.RecommendRequest(filter=product_filter)
    failure = await failure_of(served.recommendation.Recommend(request))
    assert list(failure.violations) == [f"filter.{field}"]


BAD_TRACKS = {
    "nobody": (event_pb.TrackEventsRequest(events=[view()]), "visitor"),
    "no events": (event_pb.TrackEventsRequest(visitor=VISITOR), "events"),
    "101 events": (event_pb.TrackEventsRequest(visitor=VISITOR, events=[view()] * 101), "events"),
}


@pytest.mark.parametrize("name", BAD_TRACKS)
async def test_track_events_names_the_bad_field(served: Served, name: str) -> None:
    request, field = BAD_TRACKS[name]
    failure = await failure_of(served.events.TrackEvents(request))
    assert list(failure.violations) == [field]


async def test_nothing_is_recorded_of_a_bad_batch(served: Served) -> None:
    request = event_pb.TrackEventsRequest(visitor=VISITOR, events=[view(), view(quantity=0)])
    await failure_of(served.events.TrackEvents(request))
    assert await served.outside.sessions.recent("visitor:v") is EMPTY_HISTORY


BAD_PRODUCTS = {
    "no id": (Product(title="a"), "id"),
    "long id": (Product(id=LONG_ID), "id"),
    "long title": (Product(id="a", title="x" * 1001), "title"),
    "long description": (Product(id="a", description="x" * 5001), "description"),
    "long brand": (Product(id="a", brand="x" * 201), "brand"),
    "21 categories": (Product(id="a", categories=["a"] * 21), "categories"),
    "empty category": (Product(id="a", categories=["a", ""]), "categories[1]"),
    "empty segment": (Product(id="a", categories=["a >  > b"]), "categories[0]"),
    "negative price": (priced(-1), "price.units"),
    "immense price": (priced(1_000_000_000_001), "price.units"),
    "negative nanos": (priced(1, -1), "price.nanos"),
    "too many nanos": (priced(1, 1_000_000_000), "price.nanos"),
    "no currency": (priced(currency_code=""), "price.currency_code"),
    "small currency": (priced(currency_code="eur"), "price.currency_code"),
    "unknown availability": (Product(id="a", availability=7), "availability"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD_PRODUCTS)
async def test_update_products_names_the_bad_field_and_writes_nothing(
    served: Served, name: str
) -> None:
    product, field = BAD_PRODUCTS[name]
    request = catalog_pb.BatchUpdateProductsRequest(products=[Product(id="fine"), product])
    failure = await failure_of(served.catalog.BatchUpdateProducts(request))
    assert list(failure.violations) == [f"products[1].{field}"]
    assert "fine" not in served.outside.index.products


@pytest.mark.parametrize("path", ["id", "colour", "price.units", "*", ""])
async def test_a_mask_path_that_can_not_be_written_is_refused(served: Served, path: str) -> None:
    request = catalog_pb.BatchUpdateProductsRequest(
        products=[Product(id="a")], update_mask=field_mask_pb2.FieldMask(paths=["title", path])
    )
    failure = await failure_of(served.catalog.BatchUpdateProducts(request))
    assert list(failure.violations) == ["update_mask.paths[1]"]


async def test_products_repeated_in_a_batch_are_refused(served: Served) -> None:
    request = catalog_pb.BatchUpdateProductsRequest(
        products=[Product(id="a"), Product(id="b"), Product(id="a")]
    )
    failure = await failure_of(served.catalog.BatchUpdateProducts(request))
    assert list(failure.violations) == ["products[0].id", "products[2].id"]


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_holds_1_to_1000_products(served: Served, count: int) -> None:
    products = [Product(id=f"n{number}") for number in range(count)]
    request = catalog_pb.BatchUpdateProductsRequest(products=products)
    failure = await failure_of(served.catalog.BatchUpdateProducts(request))
    assert list(failure.violations) == ["products"]


@pytest.mark.parametrize("product_id", ["", LONG_ID])
async def test_reading_and_deleting_need_a_product_id(served: Served, product_id: str) -> None:
    get = served.catalog.GetProduct(catalog_pb.GetProductRequest(product_id=product_id))
    delete = served.catalog.DeleteProduct(catalog_pb.DeleteProductRequest(product_id=product_id))
    for call in (get, delete):
        assert list((await failure_of(call)).violations) == ["product_id"]


async def test_every_bad_field_is_named_at_once(served: Served) -> None:
    request = pb.RecommendRequest(
        visitor=Visitor(visitor_id=LONG_ID),
        recent_events=[view(product_id=""), view(quantity=0, event_id=LONG_ID)],
        page_size=-1,
        filter=pb.ProductFilter(minimum_price=math.nan),
    )
    failure = await failure_of(served.recommendation.Recommend(request))
    assert set(failure.violations) == {
        "visitor.visitor_id",
        "recent_events[0].product_id",
        "recent_events[1].event_id",
        "recent_events[1].quantity",
        "page_size",
        "filter.minimum_price",
    }


async def test_very_many_bad_fields_still_fit_into_the_trailers(served: Served) -> None:
    bad = view(product_id="", event_id=LONG_ID, quantity=0)
    request = pb.PredictIntentRequest(recent_events=[bad] * 200)
    failure = await failure_of(served.recommendation.PredictIntent(request))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    listed = len(failure.violations)
    assert listed > 20
    assert f"{600 - listed} more are not listed" in list(failure.violations.values())[-1]


GOOD_EDGES = {
    "longest ids": view(product_id="x" * 128, event_id="x" * 128, attribution_token="x" * 200),
    "longest text": UserEvent(event_type=EVENT_TYPE_SEARCH, search_query="é" * 1000),
    "first moment": view(event_time=at(946_684_800)),
    "4 minutes ahead": view(event_time=at(time.time() + 240)),
    "most units": view(quantity=1_000_000),
    "most experiments": view(experiment_ids=["x" * 128] * 10),
    "most shown": shown(*["x" * 128] * 100),
}


@pytest.mark.parametrize("name", GOOD_EDGES)
async def test_values_at_the_edge_of_their_range_are_taken(served: Served, name: str) -> None:
    request = pb.PredictIntentRequest(recent_events=[GOOD_EDGES[name]] * 200)
    answer = await served.recommendation.PredictIntent(request)
    assert answer.model.model_name == "intent_r1"
