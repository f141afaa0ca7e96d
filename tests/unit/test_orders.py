"""The next order after a request: when it comes and how many units it has."""

from __future__ import annotations

import numpy as np
import pytest

from shopintent.trainer.orders import (
    NextOrders,
    in_window,
    next_orders,
    past_orders,
    purchase_window_s,
)
from shopintent.trainer.prefixes import ARRIVAL, Prefixes, visit_prefixes
from shopintent.trainer.sequences import NEVER, Sequences
from support.learning import BUY, CART, GAP_S, VIEW, Did, random_shoppers, sequences_of

FOREVER = 10**12


def prefixes_of(sequences: Sequences, *lengths: int) -> Prefixes:
    return visit_prefixes(
        sequences,
        lengths=lengths,
        visits_from=0,
        visits_until=FOREVER,
        observed_until=FOREVER,
        horizons_s=(60,),
        session_gap_s=GAP_S,
        cut_before_purchase=False,
    )


def orders_after(
    shoppers: list[list[Did]], *lengths: int, before: int = FOREVER
) -> list[tuple[int, int]]:
    """Returns (seconds, units) after each prefix; (-1, 0) where no order follows."""
    sequences = sequences_of(shoppers)
    found = next_orders(sequences, prefixes_of(sequences, *lengths), observed_before=before)
    seconds = np.where(found.seconds == NEVER, -1, found.seconds)
    return list(zip(seconds.tolist(), found.units.tolist(), strict=True))


def test_all_that_is_bought_at_one_time_is_one_order() -> None:
    visit = [Did(100, VIEW), Did(160, BUY, 3, units=2), Did(160, BUY, 4, units=5)]
    assert orders_after([visit], 1) == [(60, 7)]


def test_the_rest_of_an_order_under_way_is_not_the_next() -> None:
    visit = [Did(100, BUY, units=2), Did(100, BUY, units=5), Did(100, VIEW), Did(400, BUY, units=9)]
    assert orders_after([visit], 1, 2, 3) == [(300, 9)] * 3


def test_who_arrives_to_buy_has_the_whole_order_ahead() -> None:
    visit = [Did(100, BUY, units=2), Did(100, BUY, units=5), Did(400, BUY, units=9)]
    assert orders_after([visit], ARRIVAL) == [(0, 7)]


def test_units_in_the_cart_are_not_bought_yet() -> None:
    assert orders_after([[Did(1, VIEW), Did(2, CART, units=8), Did(3, BUY)]], 1) == [(2, 1)]


def test_orders_of_others_do_not_count() -> None:
    assert orders_after([[Did(1, VIEW)], [Did(1, VIEW), Did(2, BUY)]], 1) == [(-1, 0), (1, 1)]


def test_what_was_not_observed_is_not_looked_at() -> None:
    visit = [Did(100, VIEW), Did(160, BUY)]
    assert orders_after([visit], 1, before=160) == [(-1, 0)]
    assert orders_after([visit], 1, before=161) == [(60, 1)]


def test_without_any_purchase_nothing_is_found() -> None:
    assert orders_after([[Did(1, VIEW), Did(2, CART)]], 1, 2) == [(-1, 0)] * 2


@pytest.mark.parametrize("seed", range(20))
def test_they_agree_with_a_search_event_by_event(seed: int) -> None:
    sequences = sequences_of(random_shoppers(30, seed=seed))
    prefixes = prefixes_of(sequences, ARRIVAL, 1, 2, 3, 5)
    found = next_orders(sequences, prefixes, observed_before=FOREVER)
    units = sequences.tokens[:, -1]
    for n, (shopper, end, asked) in enumerate(
        zip(prefixes.shoppers, prefixes.ends, prefixes.request_times, strict=True)
    ):
        rows = range(int(end), int(sequences.offsets[shopper + 1]))
        first = asked if prefixes.lengths[n] == ARRIVAL else asked + 1
        times = [
            int(sequences.event_times[row])
            for row in rows
            if sequences.purchases[row] and sequences.event_times[row] >= first
        ]
        bought = [
            int(units[row])
            for row in rows
            if sequences.purchases[row] and times and sequences.event_times[row] == times[0]
        ]
        assert found.seconds[n] == (times[0] - asked if times else NEVER)
        assert found.units[n] == sum(bought)


def test_an_order_counts_where_its_whole_window_was_observed() -> None:
    sequences = sequences_of([[Did(100, VIEW)], [Did(200, VIEW)], [Did(300, VIEW)]])
    asked = prefixes_of(sequences, 1)

    def counted(*seconds: int) -> list[bool]:
        orders = NextOrders(np.array(seconds), np.ones(3, np.int64))
        found = in_window(orders, asked, window_s=50, observed_until=250)
        return [bool(each) for each in found]

    assert counted(10, 10, 10) == [True, True, False]
    assert counted(50, 51, 1) == [True, False, False]
    assert counted(0, NEVER, 1) == [False, False, False]


def test_the_window_can_be_judged_and_learned() -> None:
    assert purchase_window_s(observed_from=0, cut=800, observed_until=1000) == 100
    assert purchase_window_s(observed_from=0, cut=200, observed_until=1000) == 50


def test_a_window_is_in_whole_hours() -> None:
    assert purchase_window_s(observed_from=0, cut=80_000, observed_until=100_000) == 7_200


@pytest.mark.parametrize("seed", range(20))
def test_past_orders_are_those_seen(seed: int) -> None:
    sequences = sequences_of(random_shoppers(30, seed=seed))
    prefixes = prefixes_of(sequences, ARRIVAL, 1, 2, 3, 5)
    past = past_orders(sequences, prefixes)
    for n, (shopper, end) in enumerate(zip(prefixes.shoppers, prefixes.ends, strict=True)):
        rows = range(int(sequences.offsets[shopper]), int(end))
        bought = [row for row in rows if sequences.purchases[row]]
        times = sorted({int(sequences.event_times[row]) for row in bought})
        assert past.counts[n] == len(times)
        assert past.units[n] == sum(int(sequences.tokens[row, -1]) for row in bought)
        assert past.interval_s[n] == (times[-1] - times[-2] if len(times) > 1 else 0)


def test_without_any_order_none_is_past() -> None:
    sequences = sequences_of([[Did(1, VIEW), Did(2, CART)]])
    past = past_orders(sequences, prefixes_of(sequences, 1, 2))
    assert not past.counts.any()
    assert not past.units.any()
    assert not past.interval_s.any()
