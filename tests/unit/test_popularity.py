"""The counters of a server: what is asked for, by whom is nobody's business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.fading import HALF_LIVES_OF_LANDMARK, FadingCounts
from shopintent.server.popularity.shelf import best_rows
from shopintent.server.popularity.trending import LEAST_EXPECTED, significance
from shopintent.server.sessions import Counted
from support.counting import count_of

pytestmark = pytest.mark.events

HOUR_S = 3600
DAY_S = 24 * HOUR_S
NOW = 1_700_000_000
EVENT_TYPES = ("view-product", "favorite", "add-to-cart", "purchase", "search", "remove-from-cart")


@dataclass
class Clock:
    now: float = float(NOW)

    def __call__(self) -> float:
        return self.now


def counts_of(popularity: Popularity, clock: Clock) -> dict[str, tuple[float, ...]]:
    """Returns all that is counted of each product now."""
    columns = [each.counts(clock.now).tolist() for each in popularity.counts]
    return dict(zip(popularity.popular.values, zip(*columns, strict=True), strict=True))


def alike(
    one: dict[str, tuple[float, ...]], other: dict[str, tuple[float, ...]], *, within: float = 1e-6
) -> bool:
    nothing = (0.0, 0.0, 0.0)
    return all(
        one.get(key, nothing) == pytest.approx(other.get(key, nothing), rel=1e-9, abs=within)
        for key in one.keys() | other.keys()
    )


counted = st.builds(
    Counted,
    event_type=st.sampled_from(EVENT_TYPES),
    event_time=st.integers(NOW - 20 * DAY_S, NOW + 300),
    product_id=st.sampled_from(["", "a", "b", "c", "стул"]),
)
many = st.lists(counted, max_size=30)


@settings(deadline=None)
@given(kept=many, deleted=many, random=st.randoms())
def test_what_is_taken_back_leaves_no_trace_whatever_was_counted_in_between(
    kept: list[Counted], deleted: list[Counted], random: object
) -> None:
    clock = Clock()
    without, popularity = Popularity(clock=clock), Popularity(clock=clock)
    without.count(kept)
    feed = [*kept, *deleted]
    random.shuffle(feed)  # type: ignore[attr-defined]
    popularity.count(feed)
    clock.now += 90 * DAY_S / 24
    popularity.count(replace(each, weight=-1) for each in deleted)
    for each in (without, popularity):
        each.trim(lambda product_id: "")
    assert alike(counts_of(popularity, clock), counts_of(without, clock))
    assert popularity.popular.values.keys() == without.popular.values.keys()


@settings(deadline=None)
@given(feed=many, random=st.randoms(), pages=st.integers(1, 5))
def test_counts_depend_neither_on_the_order_of_events_nor_on_when_they_arrive(
    feed: list[Counted], random: object, pages: int
) -> None:
    clock = Clock()
    one, other = Popularity(clock=clock), Popularity(clock=clock)
    one.count(feed)
    random.shuffle(feed)  # type: ignore[attr-defined]
    for page in range(pages):
        clock.now += 7 * HOUR_S
        other.count(feed[page::pages])
    assert alike(counts_of(one, clock), counts_of(other, clock))


def test_the_landmark_moves_on_and_nothing_changes() -> None:
    clock = Clock()
    one, other = FadingCounts(100.0, now=clock.now), FadingCounts(100.0, now=clock.now)
    later = clock.now + 2 * 100.0 * HALF_LIVES_OF_LANDMARK
    for counts in (one, other):
        counts.add(["a"], np.array([1.0]), np.array([later - 100.0]))
    other.advance(later)
    assert other.landmark > one.landmark
    assert count_of(other, "a", later) == pytest.approx(0.5)
    assert count_of(one, "a", later) == pytest.approx(0.5)


@pytest.mark.parametrize("event_time", [0, 2**62, -(2**62)])
def test_a_time_that_makes_no_sense_breaks_nothing(event_time: int) -> None:
    popularity = Popularity(clock=Clock())
    for weight in (1, -1):
        popularity.count([Counted("purchase", event_time, "a", weight)])
    assert count_of(popularity.popular, "a", NOW) == 0.0


def test_more_taken_back_than_is_known_counts_as_nothing() -> None:
    popularity = Popularity(clock=Clock())
    popularity.count([Counted("purchase", NOW, "a", -1)])
    assert count_of(popularity.popular, "a", NOW) == 0.0
    popularity.count([Counted("view-product", NOW, "a")] * 11)
    assert count_of(popularity.popular, "a", NOW) == pytest.approx(1.0)


def stream(rates: dict[str, float], start: float, end: float, *, seed: int = 0) -> list[Counted]:
    """Returns Poisson streams of views, so many an hour of each product."""
    random = np.random.default_rng(seed)
    times = {
        key: random.uniform(start, end, random.poisson(rate * (end - start) / HOUR_S))
        for key, rate in rates.items()
    }
    return [
        Counted("view-product", int(each), key) for key, drawn in times.items() for each in drawn
    ]


def trending_after(feed: Sequence[Counted], end: float) -> list[str]:
    popularity = Popularity(clock=Clock(end))
    popularity.count(feed)
    return [product_id for product_id, _ in popularity.trending()]


STEADY = {f"p{rank}": 60.0 / rank for rank in range(1, 100)}


def test_a_product_asked_for_much_more_than_lately_is_trending() -> None:
    day = stream(STEADY, NOW - 3 * DAY_S, NOW)
    burst = stream({"p50": 40.0}, NOW - 2 * HOUR_S, NOW, seed=1)
    assert trending_after([*day, *burst], NOW) == ["p50"]


def test_a_new_product_that_many_ask_for_is_trending() -> None:
    day = stream(STEADY, NOW - 3 * DAY_S, NOW)
    new = stream({"new": 60.0}, NOW - HOUR_S, NOW, seed=1)
    assert trending_after([*day, *new], NOW) == ["new"]


def test_the_most_significant_rise_comes_first() -> None:
    day = stream(STEADY, NOW - 3 * DAY_S, NOW)
    rises = stream({"small": 60.0, "large": 120.0}, NOW - HOUR_S, NOW, seed=1)
    assert trending_after([*day, *rises], NOW) == ["large", "small"]


@pytest.mark.parametrize("views", [1, 3, int(LEAST_EXPECTED)])
def test_a_product_that_hardly_anybody_asks_for_is_not_trending(views: int) -> None:
    day = stream(STEADY, NOW - 3 * DAY_S, NOW)
    assert trending_after([*day, *[Counted("view-product", NOW, "new")] * views], NOW) == []
    assert trending_after([Counted("view-product", NOW, "only")] * views, NOW) == []


def test_one_purchase_makes_nothing_trending() -> None:
    day = stream(STEADY, NOW - 3 * DAY_S, NOW)
    order = [Counted(each, NOW, "new") for each in ("view-product", "add-to-cart", "purchase")]
    assert trending_after([*day, *order], NOW) == []


def test_a_busy_evening_makes_nothing_trending() -> None:
    day = stream(STEADY, NOW - 3 * DAY_S, NOW)
    evening = stream(STEADY, NOW - 3 * HOUR_S, NOW, seed=1) * 3
    assert trending_after([*day, *evening], NOW) == []


@pytest.mark.parametrize("hours", [1, 6, 24, 72])
def test_a_shop_as_it_always_is_has_nothing_that_is_trending(hours: int) -> None:
    feeds = [stream(STEADY, NOW - hours * HOUR_S, NOW, seed=seed) for seed in range(3)]
    assert list(chain(*(trending_after(feed, NOW) for feed in feeds))) == []


def test_what_rose_days_ago_is_normal_now() -> None:
    risen = stream({**STEADY, "new": 60.0}, NOW - 4 * DAY_S, NOW)
    assert trending_after(risen, NOW) == []


def test_nothing_is_trending_where_nothing_happens() -> None:
    assert Popularity(clock=Clock()).trending() == []
    assert significance(np.zeros(3), np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_what_is_beyond_expectation_is_told_in_standard_deviations() -> None:
    now, lately = np.array([140.0, 20.0, 340.0]), np.array([400.0, 100.0, 500.0])
    assert significance(now, lately).tolist() == [0.0, 0.0, 0.0]  # 340 is not twice 250.
    now = np.array([10.0, 140.0, 350.0])
    assert significance(now, lately).tolist() == [0.0, pytest.approx(90.0 / np.sqrt(50.0)), 0.0]
    assert significance(np.array([50.0]), np.array([0.0])).tolist() == [30.0 / np.sqrt(20.0)]


def test_the_best_of_each_category_are_kept_beside_the_best_of_all() -> None:
    categories = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 0])
    assert best_rows(categories, overall=3, total=5).tolist() == [0, 1, 2, 6, 8]
    assert best_rows(categories, overall=3, total=6).tolist() == [0, 1, 2, 6, 7, 8]
    assert best_rows(categories, overall=0, total=3).tolist() == [0, 6, 8]
    assert best_rows(categories, overall=10, total=20).tolist() == list(range(10))
    assert best_rows(np.array([], dtype=np.int64), overall=3, total=5).tolist() == []


@settings(deadline=None)
@given(
    categories=st.lists(st.integers(0, 5), max_size=40),
    overall=st.integers(0, 20),
    more=st.integers(0, 20),
)
def test_as_many_rows_are_kept_as_may_be_and_none_before_a_better_one_of_its_category(
    categories: list[int], overall: int, more: int
) -> None:
    kept = best_rows(np.array(categories, dtype=np.int64), overall=overall, total=overall + more)
    rows = kept.tolist()
    assert rows == sorted(set(rows))
    assert len(rows) == min(len(categories), overall + more)
    assert set(range(min(overall, len(categories)))) <= set(rows)
    for row in rows:
        better = [each for each in range(row) if categories[each] == categories[row]]
        assert set(better) <= set(rows)


def test_a_flood_of_one_category_leaves_the_best_of_others_counted() -> None:
    clock = Clock()
    popularity = Popularity(capacity=10, clock=clock)

    def category_of(product_id: str) -> str:
        return product_id.partition("-")[0]

    popularity.count(Counted("view-product", NOW, f"niche-{number}") for number in range(3))
    for number in range(5_000):
        popularity.count([Counted("purchase", NOW, f"flood-{number}")])
        if popularity.is_full:
            popularity.trim(category_of)
    counted = popularity.popular.values.keys()
    assert len(counted) <= 120
    assert {"niche-0", "niche-1", "niche-2"} <= counted
    assert popularity.now.values.keys() == popularity.lately.values.keys() == counted


def test_what_has_faded_is_forgotten() -> None:
    clock = Clock()
    popularity = Popularity(clock=clock)
    popularity.count([Counted("view-product", NOW, "a")])
    clock.now += 9 * DAY_S
    popularity.trim(lambda product_id: "")
    assert "a" in popularity.popular.values
    clock.now += 2 * DAY_S
    popularity.trim(lambda product_id: "")
    assert counts_of(popularity, clock) == {}
