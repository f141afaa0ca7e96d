"""What is shown when nothing personal can be."""

from __future__ import annotations

import time

import pytest

from shopintent.behavior import Event, Product
from shopintent.server.index import ProductFilter
from shopintent.server.popular import PopularNow
from shopintent.server.popularity.counters import Popularity
from shopintent.server.ranking import RankedProduct, Source
from shopintent.server.sessions import Counted
from shopintent.server.standin import stand_in

pytestmark = pytest.mark.events

NOW = int(time.time())
DAY_S = 24 * 3600
SHOP = [
    *(Product(f"chair{number}", categories=("Garden > Chairs",)) for number in range(20)),
    *(Product(f"pan{number}", categories=("Kitchen > Pans",)) for number in range(20)),
]
EVERYTHING = ProductFilter()


def views(product_id: str, n: int, event_time: int = NOW) -> list[Counted]:
    return [Counted("view-product", event_time, product_id)] * n


@pytest.fixture
def popular() -> PopularNow:
    """Chairs are more popular than pans; pan15 and pan16 are trending."""
    counters = Popularity(clock=lambda: float(NOW))
    counters.count(views("sold no more", 30_000, NOW - 2 * DAY_S))
    counters.count([*views("pan15", 200), *views("pan16", 100)])
    return PopularNow(SHOP, [float(100_000 - 1_000 * row) for row in range(len(SHOP))], counters)


def ids(page: list[RankedProduct]) -> list[str]:
    return [each.product.product_id for each in page]


def sources(page: list[RankedProduct]) -> str:
    return "".join(each.source[0] for each in page)


def test_a_cold_start_mixes_what_is_popular_and_what_is_trending(popular: PopularNow) -> None:
    page = stand_in(popular, (), EVERYTHING, 12)
    assert ids(page) == [
        "chair0", "chair1", "chair2", "pan15",
        "chair3", "chair4", "chair5", "pan16",
        "chair6", "chair7", "chair8", "chair9",
    ]  # fmt: skip
    assert sources(page) == "ppptppptpppp"
    assert page[3].source is Source.TRENDING


def test_scores_fall_from_one(popular: PopularNow) -> None:
    scores = [each.score for each in stand_in(popular, (), EVERYTHING, 4)]
    assert scores == [1.0, 0.75, 0.5, 0.25]


def test_what_is_both_comes_once(popular: PopularNow) -> None:
    popular.popularity.count(views("chair0", 500_000))
    page = stand_in(popular, (), EVERYTHING, 40)
    assert len(set(ids(page))) == len(page) == 40


@pytest.mark.parametrize("limit", [-1, 0, 1, 3, 4, 39, 40, 100])
def test_a_page_has_as_many_as_it_may(popular: PopularNow, limit: int) -> None:
    assert len(stand_in(popular, (), EVERYTHING, limit)) == max(0, min(limit, len(SHOP)))
    seen = [Event("view-product", NOW, "pan3")]
    assert len(stand_in(popular, seen, EVERYTHING, limit)) == max(0, min(limit, len(SHOP)))


def test_whoever_looked_at_pans_gets_popular_pans_first(popular: PopularNow) -> None:
    page = stand_in(popular, [Event("view-product", NOW, "pan3")], EVERYTHING, 8)
    assert ids(page) == ["pan0", "pan1", "pan2", "pan15", "pan3", "pan4", "pan5", "pan16"]


def test_the_newest_category_comes_first_and_then_the_one_before(popular: PopularNow) -> None:
    seen = [
        Event("view-product", NOW - 2, "pan3"),
        Event("view-category", NOW - 1, category="Garden"),
        Event("search", NOW, search_query="red"),
    ]
    page = stand_in(popular, seen, ProductFilter(excluded_product_ids=frozenset({"pan15"})), 30)
    assert ids(page)[:3] == ["chair0", "chair1", "chair2"]
    assert ids(page)[3] == "pan16"
    assert ids(page)[19:22] == ["chair18", "chair19", "pan0"]


def test_events_of_unknown_products_change_nothing(popular: PopularNow) -> None:
    unknown = [Event("view-product", NOW, "who knows"), Event("view-category", NOW, category="No")]
    assert stand_in(popular, unknown, EVERYTHING, 12) == stand_in(popular, (), EVERYTHING, 12)


def test_the_filter_holds_for_every_source(popular: PopularNow) -> None:
    chairs = ProductFilter(categories=("Garden",), excluded_product_ids=frozenset({"chair0"}))
    page = stand_in(popular, [Event("view-product", NOW, "pan3")], chairs, 12)
    assert ids(page) == [f"chair{number}" for number in range(1, 13)]
    assert sources(page) == "p" * 12
