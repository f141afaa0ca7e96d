"""The structured features agree with a slow reference that reads event by event."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.trainer.features import (
    CATEGORY,
    PRODUCT,
    RECENT_S,
    n_features,
    structured_features,
)

N_TYPES = 5
GAP_S = 1800
PAUSES = (0, 1, 59, GAP_S, GAP_S + 1, RECENT_S[0], RECENT_S[0] + 1, RECENT_S[1], 10 * 86_400)
Rows = list[list[int]]


def reference(events: Rows, times: list[int], asked: int) -> list[float]:
    """Returns the features of one request that sees exactly these events."""
    ages = [max(asked - time, 0) for time in times]
    visits = [0]
    for earlier, later in pairwise(times):
        visits.append(visits[-1] + (later - earlier > GAP_S))
    here = bool(events) and ages[-1] <= GAP_S

    def count(chosen: list[bool]) -> list[float]:
        return [
            sum(1.0 for event, ok in zip(events, chosen, strict=True) if ok and event[0] == kind)
            for kind in range(N_TYPES)
        ]

    every = range(len(events))
    counts = [
        count([True for _ in every]),
        count([here and visits[n] == visits[-1] for n in every]),
        *(count([ages[n] <= seconds for n in every]) for seconds in RECENT_S),
        *(
            count([events[n][field] == events[-1][field] and events[-1][field] > 1 for n in every])
            for field in (PRODUCT, CATEGORY)
        ),
    ]
    last = {event[0]: age for event, age in zip(events, ages, strict=True)}
    scalars = [
        len(events),
        visits[-1] + 1 if events else 0,
        sum(counts[1]),
        max(ages, default=0),
    ]
    elapsed = [float(last.get(kind, 0)) for kind in range(N_TYPES)]
    shares = [each / max(len(events), 1) for each in counts[0]]
    freshness = [1 / (1 + last[kind] / 60) if kind in last else 0.0 for kind in range(N_TYPES)]
    flat = [each for mask in counts for each in mask]
    return [*map(math.log1p, [*flat, *scalars, *elapsed]), *shares, *freshness]


def features(
    events: Rows, times: list[int], n_seen: list[int], asked: list[int]
) -> NDArray[np.float32]:
    given = structured_features(
        torch.tensor([events]).reshape(1, len(times), len(EVENT_FIELDS)),
        torch.tensor([times]),
        torch.tensor([n_seen]),
        torch.tensor([asked]),
        n_types=N_TYPES,
        session_gap_s=GAP_S,
    )
    array: NDArray[np.float32] = given[0].numpy()
    return array


@pytest.mark.parametrize("seed", range(40))
def test_they_agree_with_the_reference_on_random_behaviors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 12))
    times = (1_700_000_000 + rng.choice(PAUSES, length).cumsum()).tolist()
    events = rng.integers(0, 4, (length, len(EVENT_FIELDS)))
    events[:, 0] = rng.integers(1, N_TYPES, length)
    n_seen = list(range(length + 1))
    asked = [times[max(n - 1, 0)] + int(rng.choice(PAUSES)) for n in n_seen]
    got = features(events.tolist(), times, n_seen, asked)
    for n in n_seen:
        expected = reference(events[:n].tolist(), times[:n], asked[n])
        assert got[n] == pytest.approx(expected, abs=1e-4), f"after {n} events"


def test_there_are_as_many_as_promised() -> None:
    got = features([[2, *[0] * 8]], [5], [0, 1], [5, 5])
    assert got.shape == (2, n_features(N_TYPES))


def test_without_events_all_are_zero() -> None:
    padding = [[0] * len(EVENT_FIELDS)] * 4
    assert not features(padding, [0] * 4, [0], [1_700_000_000]).any()


def test_padding_does_not_count() -> None:
    events, times = [[2, 3, 0, 0, 0, 4, 0, 0, 0]] * 3, [100, 200, 5000]
    padded = events + [[0] * len(EVENT_FIELDS)] * 4
    alone = features(events, times, [3, 1], [5100, 150])
    assert features(padded, times + [0] * 4, [3, 1], [5100, 150]) == pytest.approx(alone)


def test_long_after_the_last_event_nothing_is_recent_or_of_this_visit() -> None:
    view = 2
    after = features([[view, *[0] * 8]], [1000], [1, 1], [1000 + GAP_S, 1000 + 10 * 86_400])
    in_visit = N_TYPES + view
    in_hour, in_day = 2 * N_TYPES + view, 3 * N_TYPES + view
    assert (after[0, [in_visit, in_hour, in_day]] > 0).all()
    assert not after[1, [in_visit, in_hour, in_day]].any()
    assert after[1, view] == pytest.approx(math.log1p(1))


def test_a_request_before_its_last_event_counts_as_asked_at_that_event() -> None:
    events, times = [[2, *[0] * 8]] * 2, [1000, 1060]
    got = features(events, times, [2, 2], [1030, 1060])
    assert got[0, : 6 * N_TYPES] == pytest.approx(got[1, : 6 * N_TYPES])
