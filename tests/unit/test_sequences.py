"""Windows and batches of requests: what is learned from, how often, and what must not be known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from shopintent.trainer.sequences import Batch, Sequences, Window, collate, cut_windows
from support.learning import BUY, CART, GAP_S, LEAVE, VIEW, Did, random_shoppers, sequences_of

FOREVER = 10**9
MAX_EVENTS = 8


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return sequences_of(random_shoppers(40, seed=5, longest=30))


def collated(
    sequences: Sequences, windows: list[Window], *, after: int = 0, until: int = FOREVER
) -> Batch:
    return collate(sequences, windows, learn_after=after, observed_until=until, session_gap_s=GAP_S)


def middle(sequences: Sequences) -> int:
    return int(np.median(sequences.event_times))


def learned(batch: Batch, windows: list[Window]) -> tuple[Counter[int], Counter[int]]:
    """Returns how often each row's next action, and each row's product, is learned.

    The action is told at the request after the row, the product at the request before it.
    """
    actions: Counter[int] = Counter()
    products: Counter[int] = Counter()
    for row, window in enumerate(windows):
        for seen in range(1, len(window) + 1):
            actions[window.start + seen - 1] += int(batch.action_labels[row, seen] >= 0)
        for seen in range(len(window) + 1):
            products[window.start + seen] += int(batch.product_labels[row, seen] > 0)
    return actions, products


def test_a_shopper_with_few_events_is_one_window_learned_from_the_start() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3), Did(20, CART, 3)]])
    windows = cut_windows(sequences, after=0, before=100, max_events=MAX_EVENTS)
    assert windows == [Window(0, 0, 2, 0)]


def test_windows_hold_at_most_max_events_and_no_event_from_before_on(
    sequences: Sequences,
) -> None:
    before = middle(sequences)
    windows = cut_windows(sequences, after=0, before=before, max_events=MAX_EVENTS)
    assert max(map(len, windows)) == MAX_EVENTS
    assert min(map(len, windows)) >= 1
    for window in windows:
        first, behind = sequences.offsets[window.shopper : window.shopper + 2]
        assert first <= window.start < window.end <= behind
        assert (sequences.event_times[window.start : window.end] < before).all()


def test_every_next_action_before_the_end_is_learned_exactly_once(sequences: Sequences) -> None:
    before = middle(sequences)
    windows = cut_windows(sequences, after=0, before=before, max_events=MAX_EVENTS)
    actions, _ = learned(collated(sequences, windows), windows)
    assert +actions == Counter(np.flatnonzero(sequences.event_times < before).tolist())


def test_every_product_before_the_end_is_learned_exactly_once(sequences: Sequences) -> None:
    before = middle(sequences)
    windows = cut_windows(sequences, after=0, before=before, max_events=MAX_EVENTS)
    _, products = learned(collated(sequences, windows, until=before), windows)
    known = (sequences.event_times < before) & (sequences.tokens[:, 1] > 0)
    assert +products == Counter(np.flatnonzero(known).tolist())


def test_behind_the_first_window_a_request_sees_at_least_half_a_window(
    sequences: Sequences,
) -> None:
    windows = cut_windows(sequences, after=0, before=FOREVER, max_events=MAX_EVENTS)
    firsts = set(sequences.offsets[:-1].tolist())
    later = [window for window in windows if window.start not in firsts]
    assert len(later) > 20
    assert all(window.learn_from >= MAX_EVENTS // 2 for window in later)


def test_what_lies_before_learn_after_is_context_and_learned_from_by_nobody_twice(
    sequences: Sequences,
) -> None:
    """Training up to a time and validation from it on share no label."""
    cut = middle(sequences)
    training = cut_windows(sequences, after=0, before=cut, max_events=MAX_EVENTS)
    validation = cut_windows(sequences, after=cut, before=FOREVER, max_events=MAX_EVENTS)
    first = learned(collated(sequences, training, until=cut), training)
    second = learned(collated(sequences, validation, after=cut), validation)
    for before, after in zip(first, second, strict=True):
        assert not set(+before) & set(+after)
        assert max(after.values()) == 1
    assert set(+second[0]) == set(np.flatnonzero(sequences.event_times >= cut).tolist())
    some_context = [w for w in validation if sequences.event_times[w.start] < cut]
    assert some_context


def test_a_shopper_without_events_in_time_gives_no_window() -> None:
    sequences = sequences_of([[Did(10, VIEW)], [Did(500, VIEW)]])
    assert [w.shopper for w in cut_windows(sequences, after=100, before=FOREVER, max_events=4)] == [
        1
    ]
    assert cut_windows(sequences, after=0, before=10, max_events=4) == []


def test_requests_are_asked_before_the_first_event_and_right_after_each() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3), Did(20, CART, 4), Did(30, BUY, 5)]])
    batch = collated(sequences, [Window(0, 0, 3, 0)])
    assert batch.n_seen.tolist() == [[0, 1, 2, 3]]
    assert batch.request_times.tolist() == [[10, 10, 20, 30]]
    assert batch.action_labels.tolist() == [[VIEW, CART, BUY, LEAVE]]
    assert batch.product_labels.tolist() == [[3, 4, 5, 0]]
    assert np.array_equal(batch.events[0], sequences.tokens)
    assert np.array_equal(batch.event_times[0], sequences.event_times)


def test_padding_is_behind_the_events_and_teaches_nothing() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3)], [Did(t, VIEW, 4) for t in (10, 20, 30)]])
    batch = collated(sequences, [Window(0, 0, 1, 0), Window(1, 1, 4, 0)])
    assert batch.events.shape == (2, 3, 9)
    assert not batch.events[0, 1:].any()
    assert not batch.event_times[0, 1:].any()
    assert batch.action_labels[0].tolist() == [VIEW, LEAVE, -1, -1]
    assert batch.product_labels[0].tolist() == [3, 0, 0, 0]


def test_a_next_action_the_log_ends_too_early_to_tell_is_not_learned() -> None:
    events = [Did(1000, VIEW, 3), Did(2000, VIEW, 4)]
    sequences = sequences_of([events])
    window = [Window(0, 0, 2, 0)]
    told = collated(sequences, window, until=2000 + GAP_S)
    assert told.action_labels.tolist() == [[VIEW, VIEW, LEAVE]]
    early = collated(sequences, window, until=2000 + GAP_S - 1)
    assert early.action_labels.tolist() == [[VIEW, VIEW, -1]]


def test_nothing_after_the_observed_time_changes_a_batch(sequences: Sequences) -> None:
    """The labels of the log that ends at the cut, and of the same log that goes on, are equal."""
    cut = middle(sequences)
    windows = cut_windows(sequences, after=0, before=cut, max_events=MAX_EVENTS)
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
    same_windows = cut_windows(ended, after=0, before=FOREVER, max_events=MAX_EVENTS)
    full = collated(sequences, windows, until=cut)
    short = collated(ended, same_windows, until=cut)
    for name in Batch._fields:
        assert np.array_equal(getattr(full, name), getattr(short, name)), name


def returning(sequences: Sequences, windows: list[Window], **limits: int) -> Batch:
    always = np.ones((len(windows), max(map(len, windows)) + 1), bool)
    settings = {"learn_after": 0, "observed_until": FOREVER, "session_gap_s": GAP_S} | limits
    return collate(sequences, windows, returning=always, **settings)


def test_a_returning_shopper_is_asked_at_the_start_of_the_next_visit() -> None:
    visits = [Did(10, VIEW, 3), Did(20, CART, 4), Did(20_000, BUY, 5)]
    sequences = sequences_of([visits])
    batch = returning(sequences, [Window(0, 0, 3, 0)])
    assert batch.request_times.tolist() == [[10, 10, 20_000, 20_000]]
    assert batch.action_labels.tolist() == [[VIEW, CART, BUY, LEAVE]]
    assert batch.product_labels.tolist() == [[3, 4, 5, 0]]


def test_a_return_after_the_observed_time_is_not_learned() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3), Did(20_000, BUY, 5)]])
    (window,) = cut_windows(sequences, after=0, before=15_000, max_events=4)
    batch = returning(sequences, [window], observed_until=15_000)
    assert batch.action_labels.tolist() == [[VIEW, -1]]


def test_the_next_shopper_is_not_taken_for_a_return() -> None:
    sequences = sequences_of([[Did(10, VIEW, 3)], [Did(90_000, BUY, 5)]])
    lying = replace(sequences, returns=np.ones(2, bool))
    batch = returning(lying, [Window(0, 0, 1, 0)])
    assert batch.request_times.tolist() == [[10, 10]]
    assert batch.action_labels.tolist() == [[VIEW, LEAVE]]
