"""Batches: bounded in size, every window once an epoch, and the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from shopintent.trainer.batches import RETURNING_SHARE, Batches
from shopintent.trainer.sequences import Batch, Sequences, cut_windows
from support.learning import GAP_S, random_shoppers, sequences_of

BATCH_EVENTS = 64
FOREVER = 10**9


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    # Every event at a time of its own, so that a window can be told by its first.
    return sequences_of(random_shoppers(150, seed=3, longest=12))


@pytest.fixture(scope="module")
def batches(sequences: Sequences) -> Batches:
    return Batches(
        sequences,
        cut_windows(sequences, after=0, before=FOREVER, max_events=8),
        learn_after=0,
        observed_until=FOREVER,
        session_gap_s=GAP_S,
        batch_events=BATCH_EVENTS,
    )


def windows_in(batch: Batch) -> list[tuple[int, ...]]:
    """Returns each row of a batch as something that can be counted, padding left out."""
    return [
        tuple(np.hstack([events, times[:, None]])[events[:, 0] > 0].ravel().tolist())
        for events, times in zip(batch.events, batch.event_times, strict=True)
    ]


def expected(batches: Batches) -> Counter[tuple[int, ...]]:
    given = batches.sequences
    return Counter(
        tuple(
            np.hstack([given.tokens[w.start : w.end], given.event_times[w.start : w.end, None]])
            .ravel()
            .tolist()
        )
        for w in batches.windows
    )


def test_every_window_comes_exactly_once(batches: Batches) -> None:
    for drawn in (batches.shuffled(np.random.default_rng(1)), batches.in_order()):
        assert Counter(w for batch in drawn for w in windows_in(batch)) == expected(batches)


def test_a_batch_holds_at_most_so_many_events_padding_included(batches: Batches) -> None:
    sizes = [batch.event_times.size for batch in batches.shuffled(np.random.default_rng(1))]
    assert max(sizes) <= BATCH_EVENTS
    assert len(sizes) > 10
    assert np.mean(sizes) > BATCH_EVENTS / 2


def test_a_window_larger_than_a_batch_comes_alone(sequences: Sequences) -> None:
    windows = cut_windows(sequences, after=0, before=FOREVER, max_events=8)
    tight = Batches(sequences, windows, 0, FOREVER, GAP_S, batch_events=4)
    long = [batch for batch in tight.in_order() if batch.event_times.shape[1] > 4]
    assert long
    assert all(len(batch.event_times) == 1 for batch in long)


def test_the_same_seed_gives_the_same_batches_and_another_others(batches: Batches) -> None:
    first, same, other = (list(batches.shuffled(np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert len(first) == len(same)
    for mine, again in zip(first, same, strict=True):
        for name in Batch._fields:
            assert np.array_equal(getattr(mine, name), getattr(again, name)), name
    assert windows_in(first[0]) != windows_in(other[0])


def test_batches_are_not_in_order_of_length(batches: Batches) -> None:
    lengths = [batch.event_times.shape[1] for batch in batches.shuffled(np.random.default_rng(1))]
    assert lengths != sorted(lengths)


def test_some_requests_are_asked_at_the_return_and_validation_never(batches: Batches) -> None:
    def shares(drawn: list[Batch]) -> float:
        """The share of returns that are asked at the next visit: long after the last event."""
        late = sum(int((b.request_times[:, 1:] - b.event_times > GAP_S).sum()) for b in drawn)
        returns = sum(
            int(batches.sequences.returns[w.start : w.end].sum()) for w in batches.windows
        )
        return late / returns

    shuffled = list(batches.shuffled(np.random.default_rng(1)))
    assert shares(shuffled) == pytest.approx(RETURNING_SHARE, abs=0.06)
    assert shares(list(batches.in_order())) == 0
