"""Prefixes of visits agree with a slow reference, and no label looks past what is observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from shopintent.trainer.prefixes import (
    ARRIVAL,
    JUDGED_LENGTHS,
    LEARNED_LENGTHS,
    Prefixes,
    few,
    visit_prefixes,
)
from shopintent.trainer.sequences import Sequences
from support.learning import BUY, CART, GAP_S, LEAVE, VIEW, Did, random_shoppers, sequences_of

HORIZONS_S = (600, 30_000)


class Prefix(NamedTuple):
    shopper: int
    length: int
    seen: int
    """All events of the shopper that are seen."""
    asked: int
    bought: tuple[bool, ...]
    known: tuple[bool, ...]
    next_action: int


@dataclass(frozen=True)
class Limits:
    visits_from: int = 0
    visits_until: int = 10**9
    observed_until: int = 10**9
    cut_before_purchase: bool = False


def visits_of(events: list[Did]) -> list[list[int]]:
    """Returns the positions of each visit's events."""
    visits: list[list[int]] = []
    for n, event in enumerate(events):
        if n and event.time - events[n - 1].time <= GAP_S:
            visits[-1].append(n)
        else:
            visits.append([n])
    return visits


def reference(shoppers: list[list[Did]], lengths: tuple[int, ...], limits: Limits) -> list[Prefix]:
    found = []
    for shopper, events in enumerate(shoppers):
        for visit in visits_of(events):
            if not limits.visits_from <= events[visit[0]].time < limits.visits_until:
                continue
            purchases = [n for n in visit if events[n].action == BUY]
            for length in lengths:
                if length > len(visit):
                    continue
                if limits.cut_before_purchase and purchases and visit[0] + length > purchases[0]:
                    continue
                seen = visit[0] + length
                asked = events[max(seen - 1, visit[0])].time
                if asked >= limits.visits_until:
                    continue
                later = [e.time for e in events[seen:] if e.action == BUY]
                action = events[seen].action if seen in visit else LEAVE
                found.append(
                    Prefix(
                        shopper,
                        length,
                        seen,
                        asked,
                        (
                            any(n >= seen for n in purchases),
                            *(any(t <= asked + h for t in later) for h in HORIZONS_S),
                        ),
                        (
                            events[visit[-1]].time + GAP_S <= limits.observed_until,
                            *(asked + h <= limits.observed_until for h in HORIZONS_S),
                        ),
                        action if asked + GAP_S <= limits.observed_until else -1,
                    )
                )
    return sorted(found)


def ours(sequences: Sequences, lengths: tuple[int, ...], limits: Limits) -> list[Prefix]:
    prefixes = cut(sequences, lengths, limits)
    return sorted(
        Prefix(
            int(prefixes.shoppers[n]),
            int(prefixes.lengths[n]),
            int(prefixes.ends[n] - sequences.offsets[prefixes.shoppers[n]]),
            int(prefixes.request_times[n]),
            tuple(prefixes.purchase_labels[n].tolist()),
            tuple(prefixes.purchase_known[n].tolist()),
            int(prefixes.next_actions[n]),
        )
        for n in range(len(prefixes))
    )


def cut(sequences: Sequences, lengths: tuple[int, ...], limits: Limits) -> Prefixes:
    return visit_prefixes(
        sequences,
        lengths=lengths,
        visits_from=limits.visits_from,
        visits_until=limits.visits_until,
        observed_until=limits.observed_until,
        horizons_s=HORIZONS_S,
        session_gap_s=GAP_S,
        cut_before_purchase=limits.cut_before_purchase,
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lengths", [LEARNED_LENGTHS, JUDGED_LENGTHS])
@pytest.mark.parametrize("cut_before_purchase", [True, False])
def test_they_agree_with_the_reference(
    seed: int, lengths: tuple[int, ...], cut_before_purchase: bool
) -> None:
    shoppers = random_shoppers(30, seed=seed)
    sequences = sequences_of(shoppers)
    early, late = (int(np.quantile(sequences.event_times, q)) for q in (0.3, 0.8))
    for limits in (
        Limits(cut_before_purchase=cut_before_purchase),
        Limits(early, late, late, cut_before_purchase),
    ):
        expected = reference(shoppers, lengths, limits)
        assert len(expected) > 20
        assert ours(sequences, lengths, limits) == expected


VISIT = [Did(100, VIEW, 2), Did(200, CART, 2), Did(300, BUY, 2), Did(400, VIEW, 3)]


def test_an_arrival_sees_nothing_of_its_visit_and_all_before_it() -> None:
    again = [Did(50_000, BUY, 4)]
    sequences = sequences_of([VISIT + again])
    prefixes = cut(sequences, (ARRIVAL,), Limits())
    assert [len(each) for each in prefixes.behaviors(sequences)] == [0, 4]
    assert prefixes.request_times.tolist() == [100, 50_000]
    assert prefixes.next_actions.tolist() == [VIEW, BUY]
    # The first event of the second visit is the purchase that its arrival is asked about.
    assert prefixes.purchase_labels.tolist() == [[True, True, True], [True, True, True]]


def test_a_visit_is_judged_only_before_its_first_purchase() -> None:
    sequences = sequences_of([VISIT])
    judged = cut(sequences, (1, 2, 3), Limits(cut_before_purchase=True))
    assert judged.lengths.tolist() == [1, 2]
    learned = cut(sequences, (1, 2, 3), Limits())
    assert learned.lengths.tolist() == [1, 2, 3]
    assert learned.purchase_labels[:, 0].tolist() == [True, True, False]


def test_a_purchase_counts_up_to_the_last_second_of_the_horizon() -> None:
    for at, bought in ((600, True), (601, False)):
        sequences = sequences_of([[Did(0, VIEW, 2), Did(at, BUY, 2)]])
        assert cut(sequences, (1,), Limits()).purchase_labels[0, 1] == bought


def test_a_purchase_of_the_next_visit_is_none_of_this_one() -> None:
    sequences = sequences_of([[Did(0, VIEW, 2), Did(GAP_S + 1, BUY, 2)]])
    assert not cut(sequences, (1,), Limits()).purchase_labels[0, 0]
    assert cut(sequences, (ARRIVAL,), Limits()).purchase_labels[:, 0].tolist() == [False, True]


def test_how_a_visit_ends_is_unknown_while_it_may_go_on() -> None:
    sequences = sequences_of([[Did(1000, VIEW, 2), Did(1500, BUY, 2)]])
    for until, known in ((1500 + GAP_S - 1, False), (1500 + GAP_S, True)):
        prefixes = cut(sequences, (1,), Limits(observed_until=until))
        assert prefixes.purchase_known[0, 0] == known
        assert prefixes.purchase_labels[0, 0]


def test_where_the_log_ends_the_last_visits_end_too() -> None:
    sequences = sequences_of([[Did(1000, VIEW, 2), Did(1500, BUY, 2)]])
    prefixes = visit_prefixes(
        sequences,
        lengths=(1, 2),
        visits_from=0,
        visits_until=1501,
        observed_until=1500,
        horizons_s=HORIZONS_S,
        session_gap_s=GAP_S,
        cut_before_purchase=False,
        log_ends=True,
    )
    assert prefixes.purchase_known[:, 0].tolist() == [True, True]
    assert not prefixes.purchase_known[:, 1].any()


def test_a_visit_is_undecided_from_its_first_event_to_its_first_purchase() -> None:
    again = [Did(50_000, VIEW, 4)]
    prefixes = cut(sequences_of([VISIT + again]), (ARRIVAL, 1, 2, 3), Limits())
    undecided = {
        (int(asked), int(length)): bool(each)
        for asked, length, each in zip(
            prefixes.request_times, prefixes.lengths, prefixes.undecided, strict=True
        )
    }
    assert undecided == {
        (100, ARRIVAL): False,
        (100, 1): True,
        (200, 2): True,
        (300, 3): False,
        (50_000, ARRIVAL): False,
        (50_000, 1): True,
    }


def test_a_label_is_unknown_when_the_log_ends_within_its_horizon() -> None:
    sequences = sequences_of([[Did(1000, VIEW, 2)]])
    for until, known in ((1599, [False, False]), (1600, [True, False]), (31_000, [True, True])):
        prefixes = cut(sequences, (1,), Limits(observed_until=until))
        assert prefixes.purchase_known[0, 1:].tolist() == known


def test_what_happens_after_the_observed_time_changes_no_known_label() -> None:
    shoppers = random_shoppers(40, seed=9)
    until = int(np.median([event.time for events in shoppers for event in events]))
    ended = [[event for event in events if event.time <= until] for events in shoppers]
    # Behind the observed time everybody buys at once, which nobody may know.
    other = [[*events, Did(until + 1, BUY, 2)] for events in ended]
    limits = Limits(visits_until=until, observed_until=until)
    first, second = (cut(sequences_of(each), LEARNED_LENGTHS, limits) for each in (shoppers, other))

    def told(prefixes: Prefixes) -> set[tuple[object, ...]]:
        labels = np.where(prefixes.purchase_known, prefixes.purchase_labels, False)
        columns = (prefixes.shoppers, prefixes.request_times, prefixes.lengths)
        rows = zip(*(each.tolist() for each in columns), labels.tolist(), strict=True)
        actions = prefixes.next_actions.tolist()
        return {
            (*key, tuple(label), action)
            for (*key, label), action in zip(rows, actions, strict=True)
        }

    assert len(first) > 50
    assert told(first) == told(second)


def test_the_prefixes_taken_keep_their_columns_together() -> None:
    sequences = sequences_of(random_shoppers(10, seed=2))
    prefixes = cut(sequences, LEARNED_LENGTHS, Limits())
    drawn = np.random.default_rng(0).permutation(len(prefixes))[:15]
    taken = prefixes.take(drawn)
    assert len(taken) == 15
    for name in ("shoppers", "ends", "request_times", "purchase_labels", "next_actions"):
        assert np.array_equal(getattr(taken, name), getattr(prefixes, name)[drawn])


def test_a_log_without_visits_in_time_gives_none() -> None:
    sequences = sequences_of([VISIT])
    assert len(cut(sequences, LEARNED_LENGTHS, Limits(visits_from=10**6))) == 0


def test_of_very_many_visits_some_are_drawn_and_always_the_same() -> None:
    visits = np.arange(1_000) % 3 > 0
    drawn = few(visits, 100)
    assert drawn.sum() == 100
    assert not (drawn & ~visits).any()
    assert np.array_equal(drawn, few(visits, 100))
    # They come from all over the log, and fewer visits are all taken.
    assert drawn[:500].sum() > 25
    assert drawn[500:].sum() > 25
    assert few(visits, 1_000) is visits
