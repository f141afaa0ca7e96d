"""Order features: what past orders were like, as the graph works it out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.trainer.order_features import N_ORDER_FEATURES, order_features

VIEW, CART, REMOVE, BUY = 2, 3, 4, 5


@dataclass(frozen=True)
class Did:
    time: int
    kind: int
    units: int = 1


def features(
    events: list[Did], asked: int, *, padding: int = 0, purchase: int = BUY
) -> NDArray[np.float32]:
    length = len(events) + padding
    tokens = torch.zeros(1, length, len(EVENT_FIELDS), dtype=torch.int64)
    times = torch.zeros(1, length, dtype=torch.int64)
    for n, event in enumerate(events):
        tokens[0, n, 0], tokens[0, n, -1], times[0, n] = event.kind, event.units, event.time
    request = torch.tensor([[asked]])
    kinds = {"purchase": purchase, "add_to_cart": CART, "remove_from_cart": REMOVE}
    found: NDArray[np.float32] = order_features(tokens, times, request, **kinds)[0].numpy()
    return found


def reference(events: list[Did], asked: int) -> list[float]:
    """Returns the same features, worked out order by order."""
    bought = [event for event in events if event.kind == BUY]
    grouped = [(time, list(rows)) for time, rows in groupby(bought, key=lambda each: each.time)]
    sizes = [sum(each.units for each in rows) for _, rows in grouped]
    times = [time for time, _ in grouped]
    logs = [math.log(max(size, 1)) for size in sizes]
    n = len(sizes)
    mean_log = sum(logs) / max(n, 1)
    between = (times[-1] - times[0]) / (n - 1) if n > 1 else 0
    since = max(asked - times[-1], 0) if n else 0
    pauses = [later - earlier for earlier, later in pairwise(times)]
    waiting = [event for event in events if not n or event.time > times[-1]]
    added = [event.units for event in waiting if event.kind == CART and event.units > 0]
    removed = sum(event.units for event in waiting if event.kind == REMOVE)
    counted = [
        n,
        sum(sizes) / max(n, 1),
        len(bought) / max(n, 1),
        between,
        pauses[-1] if pauses else 0,
        since,
        max(between - since, 0) if n > 1 else 0,
        max(sum(added) - removed, 0),
        len(added),
    ]
    as_they_are = [
        mean_log,
        logs[-1] if n else 0,
        max(logs, default=0),
        sum(abs(log - mean_log) for log in logs) / max(n, 1),
        float(n > 0),
        float(n > 1),
    ]
    return [*map(math.log1p, counted), *as_they_are]


@pytest.mark.parametrize("seed", range(40))
def test_they_agree_with_the_reference_on_random_behaviors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    time, events = 1_700_000_000, []
    for _ in range(int(rng.integers(1, 14))):
        time += int(rng.choice([0, 0, 7, 5_000, 900_000]))
        kind = int(rng.choice([VIEW, CART, REMOVE, BUY]))
        events.append(Did(time, kind, 0 if kind == VIEW else int(rng.integers(1, 40))))
    asked = time + int(rng.choice([0, 3, 86_400]))
    assert features(events, asked) == pytest.approx(reference(events, asked), abs=1e-4)


def test_there_are_as_many_as_promised() -> None:
    assert features([Did(5, VIEW, 0)], 9).shape == (N_ORDER_FEATURES,)


def test_padding_does_not_count() -> None:
    events = [Did(100, BUY, 3), Did(100, BUY, 4), Did(9_000, BUY, 2), Did(9_500, CART, 6)]
    assert features(events, 9_999, padding=5) == pytest.approx(features(events, 9_999))


def test_without_orders_or_cart_all_are_zero() -> None:
    assert not features([], 1_700_000_000, padding=3).any()
    assert not features([Did(1_700_000_000, VIEW, 0)], 1_700_000_100).any()


def test_a_log_without_purchases_has_no_orders() -> None:
    assert not features([Did(10, VIEW, 0), Did(20, VIEW, 0)], 30, padding=2, purchase=-1).any()


def test_what_was_bought_is_no_longer_in_the_cart() -> None:
    cart = N_ORDER_FEATURES - 8
    events = [Did(10, CART, 5), Did(20, BUY, 5)]
    assert features(events, 30)[cart] == 0
    assert features([*events, Did(25, CART, 2)], 30)[cart] == pytest.approx(math.log1p(2))
