from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from shopintent.artifacts import IndexedProduct, ReleaseFolder, write_products
from shopintent.behavior import Product
from shopintent.server.errors import IndexUnavailable
from shopintent.server.index import ProductFilter
from shopintent.server.popular import PopularNow
from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.shelf import CATEGORY, read_shelf
from shopintent.server.sessions import Counted
from support import shop as shops
from support.fake_index import FakeProductIndex

HOUR_S = 3600
DAY_S = 24 * HOUR_S
EVERYTHING = ProductFilter(out_of_stock_included=True)


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def some(n: int) -> list[Product]:
    return [Product(f"p{number}") for number in range(n)]


def popular_of(
    products: Sequence[Product],
    counts: Sequence[float],
    clock: Clock,
    *,
    capacity: int = 1_000,
    half_life_s: float = DAY_S,
) -> PopularNow:
    """Returns the products with the counts that their release came with."""
    counters = Popularity(capacity=capacity, half_life_s=half_life_s, clock=clock)
    return PopularNow(products, counts, counters)


def ids(popular: PopularNow, product_filter: ProductFilter = EVERYTHING) -> list[str]:
    return [product.product_id for product, _ in popular.top(1_000, product_filter)]


def views(product_id: str, n: int, clock: Clock) -> list[Counted]:
    return [Counted("view-product", int(clock.now), product_id)] * n


def record(popular: PopularNow, events: Sequence[Counted], clock: Clock) -> None:
    """Counts events and lets the second pass after which the order is new."""
    popular.popularity.count(events)
    clock.now += 1.0


def test_the_products_of_the_release_are_popular_at_first(clock: Clock) -> None:
    manifest = replace(shops.manifest(3), popularity=(70.0, 14.0, 7.0))
    popular = PopularNow.from_release(manifest, some(3), Popularity(clock=clock))
    assert ids(popular) == ["p0", "p1", "p2"]


def test_a_week_of_the_log_weighs_as_much_as_the_same_week_live(clock: Clock) -> None:
    manifest = replace(shops.manifest(1), popularity=(7.0 * 24,))  # One an hour.
    seeded = PopularNow.from_release(manifest, some(1), Popularity(clock=clock))
    live = popular_of(some(1), [0.0], clock)
    start = clock.now
    for hour in range(20 * 24):
        clock.now = start + hour * HOUR_S
        live.popularity.count(views("p0", 1, clock))
    clock.now = start + 20 * DAY_S
    ((_, live_count),) = live.top(1, EVERYTHING)
    clock.now = start
    ((_, seeded_count),) = seeded.top(1, EVERYTHING)
    assert live_count == pytest.approx(seeded_count, rel=0.05)


def test_a_product_viewed_now_overtakes_one_viewed_before(clock: Clock) -> None:
    popular = popular_of(some(2), [0.0, 0.0], clock)
    record(popular, views("p0", 5, clock), clock)
    assert ids(popular) == ["p0", "p1"]
    clock.now += 2 * DAY_S
    record(popular, views("p1", 2, clock), clock)
    assert ids(popular) == ["p1", "p0"]


def test_counts_halve_every_half_life(clock: Clock) -> None:
    popular = popular_of(some(1), [8.0], clock, half_life_s=100.0)
    assert popular.top(1, EVERYTHING)[0][1] == pytest.approx(8.0)
    clock.now += 200.0
    assert popular.top(1, EVERYTHING)[0][1] == pytest.approx(2.0)


def test_counts_survive_years_without_a_restart(clock: Clock) -> None:
    popular = popular_of(some(2), [4.0, 1.0], clock)
    for _ in range(40):
        clock.now += 40 * DAY_S
        record(popular, views("p1", 3, clock), clock)
    (best, count), _ = popular.top(2, EVERYTHING)
    assert best.product_id == "p1"
    assert count == pytest.approx(3.0, rel=1e-3)


def test_old_events_sent_late_weigh_little(clock: Clock) -> None:
    popular = popular_of(some(2), [0.0, 0.0], clock)
    old = [replace(event, event_time=946_684_800) for event in views("p0", 1_000, clock)]
    record(popular, [*old, *views("p1", 1, clock)], clock)
    assert ids(popular) == ["p1", "p0"]


def test_events_minutes_ahead_of_the_clock_weigh_hardly_more_than_those_of_now(
    clock: Clock,
) -> None:
    popular = popular_of(some(1), [0.0], clock)
    ahead = [replace(event, event_time=int(clock.now) + 300) for event in views("p0", 1, clock)]
    popular.popularity.count(ahead)
    assert popular.top(1, EVERYTHING)[0][1] == pytest.approx(1.0, rel=0.005)


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("view-product", "favorite"),
        ("favorite", "add-to-cart"),
        ("add-to-cart", "purchase"),
        ("remove-from-cart", "view-product"),
        ("search", "view-product"),
    ],
)
def test_events_closer_to_money_weigh_more(weaker: str, stronger: str, clock: Clock) -> None:
    popular = popular_of(some(2), [0.0, 0.0], clock)
    time = int(clock.now)
    popular.popularity.count([Counted(weaker, time, "p0"), Counted(stronger, time, "p1")])
    assert ids(popular) == ["p1", "p0"]


def test_only_products_that_pass_the_filter_are_returned(clock: Clock) -> None:
    shop = shops.products(40)
    popular = popular_of(shop, [float(40 - row) for row in range(40)], clock)
    chairs = ProductFilter(
        categories=("Garden > Chairs",),
        minimum_price=5.0,
        excluded_product_ids=frozenset({"p12"}),
    )
    found = [product for product, _ in popular.top(1_000, chairs)]
    assert found
    assert "p12" not in {product.product_id for product in found}
    assert all(product.in_stock and product.price for product in found)
    assert [product for product, _ in popular.top(2, chairs)] == found[:2]


@pytest.mark.parametrize("limit", [0, -1])
def test_no_products_are_returned_when_none_are_asked_for(limit: int, clock: Clock) -> None:
    assert popular_of(some(3), [], clock).top(limit, EVERYTHING) == []


def test_percentile_falls_from_the_most_popular_to_the_unknown(clock: Clock) -> None:
    popular = popular_of(some(4), [4.0, 3.0, 2.0, 1.0], clock)
    assert [popular.percentile(f"p{number}") for number in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert popular.percentile("unknown") == 0.0


def test_catalog_writes_show_at_once(clock: Clock) -> None:
    popular = popular_of(some(3), [3.0, 2.0, 1.0], clock)
    popular.update([Product("p0", title="New title", in_stock=False), Product("p9")])
    popular.forget(["p1", "p8"])
    assert ids(popular, ProductFilter()) == ["p2"]
    assert popular.top(1, EVERYTHING)[0][0].title == "New title"


def indexed(*products: Product) -> FakeProductIndex:
    return FakeProductIndex(shops.indexed(products), embedding_size=shops.EMBEDDING_SIZE)


async def test_a_refresh_fetches_products_that_rose(clock: Clock) -> None:
    popular = popular_of(some(2), [2.0, 1.0], clock)
    record(popular, views("p7", 9, clock), clock)
    assert ids(popular) == ["p0", "p1"]
    await popular.refresh(indexed(*some(10)), timeout_s=1.0)
    assert ids(popular) == ["p7", "p0", "p1"]


async def test_a_refresh_takes_over_prices_and_deletions_of_other_servers(clock: Clock) -> None:
    popular = popular_of(some(2), [2.0, 1.0], clock)
    cheaper = Product("p0", price=Decimal(5))
    await popular.refresh(indexed(cheaper), timeout_s=1.0)
    assert [product for product, _ in popular.top(5, EVERYTHING)] == [cheaper]


async def test_products_nobody_sells_do_not_push_others_out(clock: Clock) -> None:
    popular = popular_of(some(3), [3.0, 2.0, 1.0], clock, capacity=3)
    record(popular, [e for n in range(9) for e in views(f"made up {n}", 9, clock)], clock)
    await popular.refresh(indexed(*some(3)), timeout_s=1.0)
    assert ids(popular) == ["p0", "p1", "p2"]


async def test_what_is_held_stays_when_the_index_is_down(clock: Clock) -> None:
    popular = popular_of(some(2), [2.0, 1.0], clock)
    index = indexed(*some(2))
    index.down = True
    with pytest.raises(IndexUnavailable):
        await popular.refresh(index, timeout_s=1.0)
    assert ids(popular) == ["p0", "p1"]


async def test_a_refresh_does_not_undo_a_write_made_meanwhile(clock: Clock) -> None:
    popular = popular_of(some(3), [3.0, 2.0, 1.0], clock)

    class WrittenMeanwhile(FakeProductIndex):
        async def get(
            self, product_ids: Sequence[str], *, timeout_s: float
        ) -> dict[str, IndexedProduct]:
            before = await super().get(product_ids, timeout_s=timeout_s)
            popular.update([Product("p0", title="Written meanwhile")])
            popular.forget(["p1"])
            return before

    index = WrittenMeanwhile(shops.indexed(some(3)), embedding_size=shops.EMBEDDING_SIZE)
    await popular.refresh(index, timeout_s=1.0)
    assert ids(popular) == ["p0", "p2"]
    assert popular.top(1, EVERYTHING)[0][0].title == "Written meanwhile"


async def test_memory_stays_bounded(clock: Clock) -> None:
    popular = popular_of(some(50), [100.0] * 50, clock, capacity=10)
    index = indexed(*some(50), *[Product(f"other {number}") for number in range(1_000)])
    for number in range(1_000):
        popular.popularity.count(views(f"other {number}", 1, clock))
        if number % 10 == 0:
            await popular.refresh(index, timeout_s=1.0)
            popular.popularity.trim(popular.category_of)
            assert len(popular.popularity.popular.values) <= 130
            assert len(ids(popular)) <= 50 + 130


def test_a_shop_without_products_has_none_that_are_popular(clock: Clock) -> None:
    popular = popular_of([], [], clock)
    assert popular.top(5, EVERYTHING) == []
    assert popular.percentile("p0") == 0.0
    with pytest.raises(ValueError, match="capacity"):
        Popularity(capacity=0)


def category(path: str, n: int, prefix: str) -> list[Product]:
    return [Product(f"{prefix}{number}", categories=(path,)) for number in range(n)]


def under(*paths: str) -> ProductFilter:
    return ProductFilter(categories=paths)


async def test_a_niche_category_has_its_own_popular_products(clock: Clock) -> None:
    """None of them is among the most popular overall, by far."""
    crowd, niche = category("Crowd", 500, "crowd"), category("Niche > Deep", 30, "niche")
    popular = popular_of(crowd[:10], [100.0] * 10, clock, capacity=10)
    counters, index = popular.popularity, indexed(*crowd, *niche)
    counters.count(event for each in crowd for event in views(each.product_id, 20, clock))
    for number, rank in enumerate((3, 1, 4, 2)):
        counters.count(views(f"niche{rank}", 4 - number, clock))
    await popular.refresh(index, timeout_s=1.0)
    counters.trim(popular.category_of)
    clock.now += 1.0
    assert counters.popular.values.keys() >= {f"niche{rank}" for rank in (3, 1, 4, 2)}
    assert len(counters.popular.values) <= 120
    for path in ("Niche", "Niche > Deep"):
        assert ids(popular, under(path)) == ["niche3", "niche1", "niche4", "niche2"]
    assert set(ids(popular, ProductFilter())[:10]) <= {each.product_id for each in crowd}


def test_a_category_nobody_asked_for_yet_is_answered_in_the_order_of_the_release(
    clock: Clock,
) -> None:
    shop = [*category("Crowd", 3, "crowd"), *category("Niche", 3, "niche")]
    popular = popular_of(shop, [3.0, 2.0, 0.5], clock)
    assert ids(popular, under("Niche")) == ["niche0", "niche1", "niche2"]
    record(popular, views("niche2", 1, clock), clock)
    assert ids(popular, under("Niche")) == ["niche2", "niche0", "niche1"]
    assert ids(popular, under("Niche", "Crowd", "Nowhere")) == [
        "crowd0", "crowd1", "niche2", "crowd2", "niche0", "niche1"
    ]  # fmt: skip
    assert ids(popular, under("Nowhere")) == []


def test_a_product_under_several_of_the_paths_comes_once(clock: Clock) -> None:
    shop = [Product("a", categories=("Garden > Chairs", "Outdoor")), Product("b")]
    popular = popular_of(shop, [2.0, 1.0], clock)
    assert ids(popular, under("Outdoor", "Garden", "Garden > Chairs")) == ["a"]


def test_a_product_that_moves_to_another_category_is_found_there(clock: Clock) -> None:
    popular = popular_of(category("Here", 2, "p"), [2.0, 1.0], clock)
    popular.update([Product("p0", categories=("There > Deep",))])
    assert ids(popular, under("Here")) == ["p1"]
    assert ids(popular, under("There")) == ["p0"]
    popular.forget(["p0"])
    assert ids(popular, under("There")) == []


async def test_a_product_asked_for_before_it_is_in_the_catalog_is_popular_once_it_is(
    clock: Clock,
) -> None:
    popular = popular_of(some(2), [2.0, 1.0], clock)
    record(popular, views("new", 5, clock), clock)
    await popular.refresh(indexed(*some(2)), timeout_s=1.0)
    assert ids(popular) == ["p0", "p1"]
    popular.update([Product("new"), Product("nobody asks for it", categories=("Dull",))])
    clock.now += 1.0
    assert ids(popular) == ["new", "p0", "p1"]
    assert ids(popular, under("Dull")) == []


async def test_every_product_held_is_read_again_in_turn(clock: Clock) -> None:
    popular = popular_of(some(50), [float(50 - row) for row in range(50)], clock, capacity=10)
    cheaper = [Product(f"p{number}", price=Decimal(5)) for number in range(50)]
    index = indexed(*cheaper)
    await popular.refresh(index, timeout_s=1.0)
    now = [product for product, _ in popular.top(1_000, EVERYTHING)]
    assert now[:10] == cheaper[:10]
    assert now != cheaper
    for _ in range(5):
        await popular.refresh(index, timeout_s=1.0)
    assert [product for product, _ in popular.top(1_000, EVERYTHING)] == cheaper


def test_releases_see_the_same_counts_through_their_own_products(clock: Clock) -> None:
    counters = Popularity(clock=clock)
    one = PopularNow([*some(2), Product("only in one")], [2.0, 1.0], counters)
    other = PopularNow(some(2), [1.0, 2.0], counters)
    assert (ids(one), ids(other)) == (["p0", "p1", "only in one"], ["p1", "p0"])
    counters.count([*views("only in one", 9, clock), *views("p0", 5, clock)])
    clock.now += 1.0
    assert (ids(one), ids(other)) == (["only in one", "p0", "p1"], ["p0", "p1"])


def test_what_a_release_opened_later_says_of_popularity_has_faded_since_counting_began(
    clock: Clock,
) -> None:
    counters = Popularity(clock=clock)
    clock.now += 3 * DAY_S
    counters.count(views("p1", 2, clock))
    assert ids(PopularNow(some(2), [8.0, 0.0], counters)) == ["p1", "p0"]
    assert ids(PopularNow(some(2), [32.0, 0.0], counters)) == ["p0", "p1"]


def test_popularity_of_a_release_never_fades_away_where_nothing_is_tracked(clock: Clock) -> None:
    popular = popular_of(some(3), [3.0, 2.0, 1.0], clock)
    clock.now += 3_650 * DAY_S
    assert ids(popular) == ["p0", "p1", "p2"]
    assert popular.percentile("p0") == 1.0


def test_what_was_taken_back_is_popular_no_more(clock: Clock) -> None:
    popular = popular_of([*some(2), Product("p2")], [2.0, 1.0], clock)
    record(popular, views("p2", 9, clock), clock)
    assert ids(popular)[0] == "p2"
    record(popular, [replace(each, weight=-1) for each in views("p2", 9, clock)], clock)
    clock.now += 1.0
    assert popular.percentile("p2") == 0.0


def test_trending_products_pass_the_filter_and_are_held(clock: Clock) -> None:
    shop = [Product("a", categories=("A",)), Product("b", categories=("B",)), Product("c")]
    popular = popular_of(shop, [], clock)
    for product_id, n in (("a", 100), ("b", 200), ("c", 1), ("not held", 400)):
        popular.popularity.count(views(product_id, n, clock))
    old = [
        replace(each, event_time=each.event_time - 2 * DAY_S) for each in views("c", 9_000, clock)
    ]
    popular.popularity.count(old)
    found = [product.product_id for product in popular.trending(10, EVERYTHING)]
    assert found == ["b", "a"]
    assert [each.product_id for each in popular.trending(1, EVERYTHING)] == ["b"]
    assert [each.product_id for each in popular.trending(10, under("A"))] == ["a"]


def test_counts_of_the_release_belong_to_its_first_products_however_few_are_held(
    clock: Clock, tmp_path: Path
) -> None:
    shop = [*category("Crowd", 8, "crowd"), *category("Niche", 2, "niche")]
    content = np.zeros((10, 6), dtype=np.int32)
    content[8:, CATEGORY] = 1
    folder = ReleaseFolder(tmp_path)
    write_products(folder, shop, shops.unit_vectors(10), content)
    shelf = read_shelf(folder, overall=2, total=4)
    assert [each.product_id for each in shelf] == ["crowd0", "crowd1", "niche0", "niche1"]
    manifest = replace(shops.manifest(10), popularity=tuple(float(10 - row) for row in range(10)))
    popular = PopularNow.from_release(manifest, shelf, Popularity(capacity=2, clock=clock))
    counted = [count > 0 for _, count in popular.top(4, EVERYTHING)]
    assert counted == [True, True, False, False]


@pytest.mark.parametrize("years", [-50, 50])
def test_a_clock_that_is_set_right_breaks_nothing(years: int, clock: Clock) -> None:
    popular = popular_of(some(3), [3.0, 2.0, 1.0], clock)
    popular.popularity.count(views("p2", 100, clock))
    clock.now += years * 365 * DAY_S
    assert len(ids(popular)) == 3
    popular.popularity.count(views("p1", 100, clock))
    assert len(popular.trending(3, EVERYTHING)) <= 3
    clock.now += 1.0
    assert set(ids(popular)) == {"p0", "p1", "p2"}
