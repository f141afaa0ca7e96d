"""The structured features agree with a slow reference that reads event by event."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.features import (
    DAY_S,
    HOUR_S,
    NEVER_S,
    PRIOR_EVENTS,
    PRIOR_SHARE,
    PRIOR_VISITS,
    feature_names,
    structured_features,
)

WORDS = ("view-product", "add-to-cart", "purchase", "search")
GAP_S = 1800
PAUSES = (0, 1, 59, GAP_S, GAP_S + 1, HOUR_S, HOUR_S + 1, DAY_S, 10 * DAY_S)
NOW = 1_700_000_000
Rows = list[dict[str, int]]


def event(
    kind: str, time: int, *, product: int = 0, category: int = 0, price: int = 0
) -> dict[str, int]:
    return {
        "event_type": FIRST + WORDS.index(kind),
        "product": product,
        "category": category,
        "price_bucket": price,
        "time": time,
    }


def ours(events: Rows, asked: int, *, padding: int = 0) -> dict[str, float]:
    """Returns the features by name."""
    length = max(1, len(events) + padding)
    tokens = torch.zeros(1, length, len(EVENT_FIELDS), dtype=torch.int64)
    times = torch.zeros(1, length, dtype=torch.int64)
    for n, each in enumerate(events):
        times[0, n] = each["time"]
        for field, name in enumerate(EVENT_FIELDS):
            tokens[0, n, field] = each.get(name, 0)
    found = structured_features(
        tokens, times, torch.tensor([[asked]]), event_types=WORDS, session_gap_s=GAP_S
    )
    return dict(zip(feature_names(WORDS), found[0].tolist(), strict=True))


def reference(events: Rows, asked: int) -> dict[str, float]:
    """Returns the same, event by event."""
    ages = [max(asked - each["time"], 0) for each in events]
    kinds = [WORDS[each["event_type"] - FIRST] for each in events]
    every = range(len(events))
    visit = [0] * len(events)
    for n, (earlier, later) in enumerate(pairwise(events)):
        visit[n + 1] = visit[n] + (later["time"] - earlier["time"] > GAP_S)
    goes_on = bool(events) and ages[-1] <= GAP_S
    here = [n for n in every if goes_on and visit[n] == visit[-1]]
    before = [n for n in every if n not in here]

    def at_hand(field: str) -> list[int]:
        return [n for n in every if events[n][field] == events[-1][field] > 1]

    found: dict[str, float] = {}
    masks = {
        "ever": list(every),
        "this visit": here,
        "last hour": [n for n in every if ages[n] <= HOUR_S],
        "last day": [n for n in every if ages[n] <= DAY_S],
        "same product": at_hand("product"),
        "same category": at_hand("category"),
    }
    for word in WORDS:
        for name, rows in masks.items():
            found[f"{name}: {word}"] = math.log1p(sum(kinds[n] == word for n in rows))
        found[f"share: {word}"] = kinds.count(word) / max(len(events), 1)
        found[f"last event: {word}"] = bool(events) and kinds[-1] == word
        past = [age for age, kind in zip(ages, kinds, strict=True) if kind == word]
        found[f"since last: {word}"] = math.log1p(min([*past, NEVER_S]))

    bought = [n for n in before if kinds[n] == "purchase"]
    n_visits = len({visit[n] for n in before})

    def rate(count: int, of: int, prior: float) -> float:
        return (count + PRIOR_SHARE * prior) / (of + prior)

    found["purchases an event"] = rate(len(bought), len(before), PRIOR_EVENTS)
    found["purchases a visit"] = rate(len(bought), n_visits, PRIOR_VISITS)
    buying = len({visit[n] for n in bought})
    found["visits with a purchase"] = rate(buying, n_visits, PRIOR_VISITS)
    near = [n for n in bought if ages[n] // HOUR_S % 24 in (0, 1, 2, 21, 22, 23)]
    found["purchases at this hour"] = math.log1p(len(near))

    def is_open(n: int) -> bool:
        product = events[n]["product"]
        later = [m for m in every if m > n and kinds[m] == "purchase"]
        return kinds[n] == "add-to-cart" and all(events[m]["product"] != product for m in later)

    carts = [n for n in every if is_open(n)]
    found["in the cart"] = math.log1p(len(carts))
    found["in the cart, this visit"] = math.log1p(sum(n in here for n in carts))
    found["product at hand in the cart"] = any(n in at_hand("product") for n in carts)

    length, duration = len(here), max((ages[n] for n in here), default=0)
    found["events"] = math.log1p(length)
    found["duration"] = math.log1p(duration)
    found["last gap"] = math.log1p(ages[-2] - ages[-1] if length > 1 else 0)
    found["mean gap"] = math.log1p(duration / max(length, 1))
    found["since the last event"] = math.log1p(ages[-1] if events else 0)
    for name, field in (("products", "product"), ("categories", "category")):
        different = len({events[n][field] for n in here})
        found[f"different {name} an event"] = different / max(length, 1)
    products = [events[n]["product"] for n in here]
    found["most events about one product"] = max(
        [products.count(each) - 1 for each in products if each > 1], default=0
    )
    streak = 0
    while streak < length and here[-1 - streak] in at_hand("category"):
        streak += 1
    found["events in the same category in a row"] = math.log1p(streak)

    found["visits before"] = math.log1p(n_visits)
    found["events a visit before"] = math.log1p(len(before) / max(n_visits, 1))
    found["visits a day"] = n_visits / (1 + max(ages, default=0) / DAY_S)
    since = min(ages[n] for n in before) - duration if before else NEVER_S
    found["since the visit before"] = math.log1p(since)
    found["known for"] = math.log1p(max(ages, default=0))
    found["new shopper"] = n_visits == 0

    prices = [each["price_bucket"] for each in events if each["price_bucket"]]
    found["price"] = events[-1]["price_bucket"] if events else 0
    usual = sum(prices) / max(len(prices), 1)
    found["price above the usual"] = found["price"] - usual if found["price"] else 0.0

    hour, day = asked % DAY_S / DAY_S * 2 * math.pi, asked // DAY_S % 7 / 7 * 2 * math.pi
    found |= {"hour (sine)": math.sin(hour), "hour (cosine)": math.cos(hour)}
    found |= {"weekday (sine)": math.sin(day), "weekday (cosine)": math.cos(day)}
    return {name: float(value) for name, value in found.items()}


def random_events(rng: np.random.Generator) -> Rows:
    length = int(rng.integers(0, 14))
    times = NOW + rng.choice(PAUSES, length).cumsum()
    return [
        event(
            str(rng.choice(WORDS)),
            int(time),
            product=int(rng.integers(0, 5)),
            category=int(rng.integers(0, 4)),
            price=int(rng.integers(0, 4)),
        )
        for time in times
    ]


@pytest.mark.parametrize("seed", range(60))
def test_they_agree_with_the_reference_on_random_behaviors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = random_events(rng)
    asked = (events[-1]["time"] if events else NOW) + int(rng.choice(PAUSES))
    expected = reference(events, asked)
    assert ours(events, asked) == pytest.approx(expected, abs=2e-4)
    assert ours(events, asked, padding=5) == pytest.approx(expected, abs=2e-4)


def test_names_are_unlike_and_there_are_as_many_as_features() -> None:
    names = feature_names(WORDS)
    assert len(set(names)) == len(names) == len(ours([], NOW))


@pytest.mark.parametrize("words", [("purchase",), ("view-product",)])
def test_a_log_of_one_type_of_event_has_features_too(words: tuple[str, ...]) -> None:
    events = torch.full((1, 3, len(EVENT_FIELDS)), 2)
    times = torch.tensor([[NOW, NOW + 5, NOW + 90_000]])
    found = structured_features(events, times, times[:, -1:], event_types=words, session_gap_s=60)
    assert found.shape == (1, len(feature_names(words)))
    assert bool(found.isfinite().all())


def test_a_request_before_its_last_event_counts_as_asked_at_that_event() -> None:
    events = [event("view-product", NOW), event("purchase", NOW + 60)]
    early, late = ours(events, NOW + 30), ours(events, NOW + 60)
    assert early["since last: purchase"] == late["since last: purchase"] == 0
    assert early["this visit: purchase"] == late["this visit: purchase"] > 0


def test_products_no_release_knows_are_told_apart() -> None:
    """A shopper who comes back to a new product is not one who goes on to another."""
    words = ("view-product",)
    names = feature_names(words)

    def of(products: list[int]) -> dict[str, float]:
        events = torch.zeros(1, len(products), len(EVENT_FIELDS), dtype=torch.int64)
        events[0, :, 0], events[0, :, 1] = FIRST, torch.tensor(products)
        times = torch.arange(len(products)).unsqueeze(0)
        row = structured_features(
            events, times, times[:, -1:], event_types=words, session_gap_s=1800
        )
        return dict(zip(names, row[0].tolist(), strict=True))

    assert of([-5, -5]) == of([FIRST, FIRST])
    assert of([-5, -6]) == of([FIRST, FIRST + 1])
    assert of([-5, -5]) != of([-5, -6])
