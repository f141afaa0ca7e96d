"""Windows and packed batches: what is learned from, how often, and what must not be known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.batches import (
    NOBODY,
    RETURNING_SHARE,
    ROW_SLOTS,
    Batch,
    Batches,
    Windows,
    cut_windows,
    pack,
)
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import LeaveOneOut, Span, between
from support.learning import BUY, CART, GAP_S, LEAVE, VIEW, Did, random_shoppers, sequences_of

FOREVER = 10**9
MAX_EVENTS = 8


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return sequences_of(random_shoppers(60, seed=5, longest=30))


def batches(sequences: Sequences, span: Span, *, batch_events: int = 2 * ROW_SLOTS) -> Batches:
    windows = cut_windows(sequences, span, MAX_EVENTS)
    return Batches(sequences, windows, span, GAP_S, batch_events)


def always(sequences: Sequences) -> Batches:
    return batches(sequences, between(sequences, 0, FOREVER))


def only(sequences: Sequences, *, until: int = FOREVER) -> Batch:
    """Returns the one batch that everything before a time makes."""
    (batch,) = batches(sequences, between(sequences, 0, until)).in_order()
    return batch


def middle(sequences: Sequences) -> int:
    return int(np.median(sequences.event_times))


def of_window(batch: Batch, owner: int = 0) -> dict[str, list[int]]:
    """Returns what a batch says of one window, slot by slot."""
    own = batch.owners == owner
    return {
        name: getattr(batch, name)[own].tolist()
        for name in ("n_seen", "request_times", "action_labels", "product_labels")
    }


def learned(given: Batches) -> tuple[Counter[int], Counter[int]]:
    """Returns how often each row's next action, and each row's product, is learned.

    The action is told in the slot after the row, the product in the slot before it.
    """
    actions: Counter[int] = Counter()
    products: Counter[int] = Counter()
    order = given._packed(np.arange(len(given.windows)))
    for packing, batch in zip(order, given.in_order(), strict=True):
        for owner, window in enumerate(packing.windows.tolist()):
            own = batch.owners == owner
            start = int(given.windows.starts[window])
            for seen, action, product in zip(
                batch.n_seen[own], batch.action_labels[own], batch.product_labels[own], strict=True
            ):
                if seen > 0:
                    actions[start + int(seen) - 1] += int(action >= 0)
                products[start + int(seen)] += int(product >= FIRST)
    return actions, products


def test_a_shopper_with_few_events_is_one_window_learned_from_the_start() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3), Did(20, CART, 3)]])
    windows = cut_windows(sequences, between(sequences, 0, 100), MAX_EVENTS)
    assert [getattr(windows, each).tolist() for each in Windows.__dataclass_fields__] == [
        [0], [0], [2], [0],
    ]  # fmt: skip


def test_windows_hold_at_most_max_events_and_no_event_from_before_on(
    sequences: Sequences,
) -> None:
    before = middle(sequences)
    windows = cut_windows(sequences, between(sequences, 0, before), MAX_EVENTS)
    sizes = windows.ends - windows.starts
    assert sizes.max() == MAX_EVENTS
    assert sizes.min() >= 1
    assert (windows.starts >= sequences.offsets[windows.shoppers]).all()
    assert (windows.ends <= sequences.offsets[windows.shoppers + 1]).all()
    assert (sequences.event_times[windows.ends - 1] < before).all()


def test_every_next_action_before_the_end_is_learned_exactly_once(sequences: Sequences) -> None:
    span = between(sequences, 0, middle(sequences))
    endless = replace(span, observed_until=np.full(len(sequences), FOREVER))
    actions, _ = learned(batches(sequences, endless))
    known = sequences.event_times < middle(sequences)
    assert +actions == Counter(np.flatnonzero(known).tolist())


def test_every_product_but_a_shoppers_first_is_learned_exactly_once(sequences: Sequences) -> None:
    before = middle(sequences)
    _, products = learned(batches(sequences, between(sequences, 0, before)))
    known = (sequences.event_times < before) & (sequences.tokens[:, 1] > 0)
    known[sequences.offsets[:-1]] = False
    assert +products == Counter(np.flatnonzero(known).tolist())


def test_behind_the_first_window_a_moment_sees_at_least_half_a_window(
    sequences: Sequences,
) -> None:
    windows = cut_windows(sequences, between(sequences, 0, FOREVER), MAX_EVENTS)
    later = windows.starts > sequences.offsets[windows.shoppers]
    assert later.sum() > 20
    assert (windows.learn_from[later] >= MAX_EVENTS // 2).all()


def test_what_lies_before_a_span_is_context_and_learned_from_by_nobody_twice(
    sequences: Sequences,
) -> None:
    """Training up to a time and validation from it on share no label."""
    cut = middle(sequences)
    validation = batches(sequences, between(sequences, cut, FOREVER))
    first = learned(batches(sequences, between(sequences, 0, cut)))
    second = learned(validation)
    for before, after in zip(first, second, strict=True):
        assert not set(+before) & set(+after)
        assert max(after.values()) == 1
    assert set(+second[0]) == set(np.flatnonzero(sequences.event_times >= cut).tolist())
    assert (sequences.event_times[validation.windows.starts] < cut).any()


def test_leaving_one_out_shares_no_product_and_knows_nothing_of_the_last(
    sequences: Sequences,
) -> None:
    split = LeaveOneOut()
    parts = [split.training(sequences), split.validation(sequences)]
    (_, first), (actions, second) = (learned(batches(sequences, each)) for each in parts)
    products = sequences.tokens[:, 1] > 0
    last = sequences.offsets[1:] - 1
    long = np.diff(sequences.offsets) >= 3
    assert not set(+first) & set(+second)
    assert set(+second) == set((last - 1)[long & products[last - 1]].tolist())
    assert not set(last.tolist()) & (set(+first) | set(+second))
    assert not set((last - 1).tolist()) & set(+actions)


def test_a_shopper_without_events_in_time_gives_no_window() -> None:
    sequences = sequences_of([[Did(10, VIEW)], [Did(500, VIEW)]])
    windows = cut_windows(sequences, between(sequences, 100, FOREVER), 4)
    assert windows.shoppers.tolist() == [1]
    assert len(cut_windows(sequences, between(sequences, 0, 10), 4)) == 0
    assert list(batches(sequences, between(sequences, 0, 10)).in_order()) == []


def test_a_window_is_asked_before_its_first_event_and_right_after_each() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3), Did(20, CART, 4), Did(30, BUY, 5)]])
    batch = only(sequences)
    assert of_window(batch) == {
        "n_seen": [0, 1, 2, 3],
        "request_times": [10, 10, 20, 30],
        "action_labels": [VIEW, CART, BUY, LEAVE],
        "product_labels": [0, 4, 5, 0],
    }
    assert np.array_equal(batch.events[0, 1:4], sequences.tokens)
    assert np.array_equal(batch.event_times[0, 1:4], sequences.event_times)
    assert not batch.events[0, 0].any()


def test_windows_share_a_row_and_padding_teaches_nothing() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3)], [Did(t, VIEW, 4) for t in (10, 20, 30)]])
    batch = only(sequences)
    assert batch.owners[0, :7].tolist() == [0, 0, 1, 1, 1, 1, NOBODY]
    padding = batch.owners == NOBODY
    assert not batch.events[padding].any()
    assert (batch.action_labels[padding] == -1).all()
    assert (batch.product_labels[padding] == 0).all()


def test_packing_fills_rows_and_no_slot_twice() -> None:
    sizes = np.random.default_rng(0).integers(1, 30, 500)
    packing = pack(sizes, 40)
    taken: NDArray[np.int64] = np.zeros((int(packing.rows.max()) + 1, 40), np.int64)
    for row, slot, size in zip(packing.rows, packing.slots, sizes, strict=True):
        assert slot + size <= 40
        taken[row, slot : slot + size] += 1
    assert taken.max() == 1
    assert taken.mean() > 0.85


def test_a_next_action_the_log_ends_too_early_to_tell_is_not_learned() -> None:
    sequences = sequences_of([[Did(1000, VIEW, 3), Did(2000, VIEW, 4)]])
    told = only(sequences, until=2000 + GAP_S)
    assert of_window(told)["action_labels"] == [VIEW, VIEW, LEAVE]
    early = only(sequences, until=2000 + GAP_S - 1)
    assert of_window(early)["action_labels"] == [VIEW, VIEW, -1]


def test_nothing_after_the_observed_time_changes_a_batch(sequences: Sequences) -> None:
    """The labels of the log that ends at the cut, and of the same log that goes on, are equal."""
    cut = middle(sequences)
    known = [
        [
            Did(int(t), int(a), int(p))
            for t, a, p in zip(
                sequences.event_times[first:behind],
                sequences.actions[first:behind],
                sequences.tokens[first:behind, 1],
                strict=True,
            )
            if t < cut
        ]
        for first, behind in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    ]
    ended = sequences_of([events for events in known if events])
    full = list(batches(sequences, between(sequences, 0, cut)).in_order())
    short = list(batches(ended, between(ended, 0, cut)).in_order())
    assert len(full) > 1
    for mine, other in zip(full, short, strict=True):
        for name in Batch._fields:
            assert np.array_equal(getattr(mine, name), getattr(other, name)), name


def returning(sequences: Sequences, *, until: int = FOREVER) -> Batch:
    """Returns a batch in which everybody who comes back is asked then."""
    given = batches(sequences, between(sequences, 0, until))
    (packing,) = given._packed(np.arange(len(given.windows)))
    n_slots = int(given.windows.n_slots.sum())
    return given._collate(packing, np.ones(n_slots, bool))


def test_a_returning_shopper_is_asked_at_the_start_of_the_next_visit() -> None:
    visits = [Did(10, VIEW, 3), Did(20, CART, 4), Did(20_000, BUY, 5)]
    assert of_window(returning(sequences_of([visits]))) == {
        "n_seen": [0, 1, 2, 3],
        "request_times": [10, 10, 20_000, 20_000],
        "action_labels": [VIEW, CART, BUY, LEAVE],
        "product_labels": [0, 4, 5, 0],
    }


def test_a_return_after_the_observed_time_is_not_learned() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3), Did(20_000, BUY, 5)]])
    batch = returning(sequences, until=15_000)
    assert of_window(batch)["action_labels"] == [VIEW, -1]
    assert of_window(batch)["product_labels"] == [0, 0]


def test_the_next_shopper_is_not_taken_for_a_return() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3)], [Did(90_000, BUY, 5)]])
    lying = replace(sequences, returns=np.ones(2, bool))
    told = of_window(returning(lying))
    assert told["request_times"] == [10, 10]
    assert told["action_labels"] == [VIEW, LEAVE]


def seen_windows(given: Batches, drawn: list[Batch]) -> Counter[tuple[int, ...]]:
    """Returns each window of the batches by its tokens and times."""
    found: Counter[tuple[int, ...]] = Counter()
    for batch in drawn:
        for owner in range(int(batch.owners.max()) + 1):
            own = (batch.owners == owner) & (batch.n_seen > 0)
            rows = np.hstack([batch.events[own], batch.event_times[own][:, None]])
            found[tuple(rows.ravel().tolist())] += 1
    return found


def test_every_window_comes_exactly_once_in_rows_of_one_length(sequences: Sequences) -> None:
    given = always(sequences)
    expected = Counter(
        tuple(np.hstack([sequences.tokens[a:b], sequences.event_times[a:b, None]]).ravel().tolist())
        for a, b in zip(given.windows.starts, given.windows.ends, strict=True)
    )
    for order in (given.shuffled(np.random.default_rng(1)), given.in_order()):
        drawn = list(order)
        assert seen_windows(given, drawn) == expected
        assert {batch.owners.shape[1] for batch in drawn} == {ROW_SLOTS}
        assert max(batch.owners.size for batch in drawn) <= given.batch_events


def test_the_same_seed_gives_the_same_batches_and_another_others(sequences: Sequences) -> None:
    given = always(sequences)
    first, same, other = (list(given.shuffled(np.random.default_rng(seed))) for seed in (1, 1, 2))
    for mine, again in zip(first, same, strict=True):
        for name in Batch._fields:
            assert np.array_equal(getattr(mine, name), getattr(again, name)), name
    assert not np.array_equal(first[0].events, other[0].events)


def test_some_moments_are_asked_at_the_return_and_in_validation_none() -> None:
    sequences = sequences_of(random_shoppers(200, seed=3, longest=20))
    given = always(sequences)

    def late(drawn: list[Batch]) -> int:
        """How many moments are asked at the next visit: long after the last event."""
        return sum(int((b.request_times - b.event_times > GAP_S).sum()) for b in drawn)

    returns = sum(
        int(sequences.returns[a:b].sum())
        for a, b in zip(given.windows.starts, given.windows.ends, strict=True)
    )
    shuffled = late(list(given.shuffled(np.random.default_rng(1))))
    assert shuffled / returns == pytest.approx(RETURNING_SHARE, abs=0.06)
    assert late(list(given.in_order())) == 0


def test_a_log_knows_whether_anybody_comes_back_to_a_product() -> None:
    once = [[Did(10, VIEW, 3), Did(20, VIEW, 4)], [Did(10, VIEW, 3)]]
    assert not sequences_of(once).any_product_twice()
    assert sequences_of([*once, [Did(10, VIEW, 4), Did(30, VIEW, 4)]]).any_product_twice()
