"""The order that follows a request: when the shopper buys next, and how many units.

An order is all that a shopper buys at one time. What is left of an order that the request has seen
the beginning of is not the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.behavior.tokenizer import EVENT_FIELDS, QUANTITY
from shopintent.trainer.prefixes import ARRIVAL, Prefixes
from shopintent.trainer.sequences import NEVER, Sequences

UNITS = EVENT_FIELDS.index(QUANTITY)


@dataclass(frozen=True, eq=False)
class NextOrders:
    """The next order after each of N requests, as far as the log goes."""

    seconds: NDArray[np.int64]
    """[N], from the request to the order; NEVER where the log holds none."""
    units: NDArray[np.int64]
    """[N], of the whole order; 0 where the log holds none."""


def purchase_window_s(*, observed_from: int, cut: int, observed_until: int) -> int:
    """Returns how soon an order must come for the time until it to be expected, in seconds.

    Half of the held-out time, so that it can be judged on the other half; at most a quarter of the
    time that is learned from.
    """
    return min((observed_until - cut) // 2, (cut - observed_from) // 4)


def in_window(
    orders: NextOrders, prefixes: Prefixes, *, window_s: int, observed_until: int
) -> NDArray[np.bool_]:
    """Returns after which prefixes [N] an order came within the window, if all of it was observed.

    Were the others counted, those near the end of the log would count only where the order came at
    once. A request at the very time of the order, as a shopper arrives to buy, waits for nothing.
    """
    soon = (orders.seconds > 0) & (orders.seconds <= window_s)
    found: NDArray[np.bool_] = soon & (prefixes.request_times + window_s <= observed_until)
    return found


def next_orders(sequences: Sequences, prefixes: Prefixes, *, observed_before: int) -> NextOrders:
    """Returns the shopper's first order after each prefix and before the time `observed_before`."""
    rows = np.flatnonzero(sequences.purchases & (sequences.event_times < observed_before))
    if not len(rows):
        return NextOrders(np.full(len(prefixes), NEVER), np.zeros(len(prefixes), np.int64))
    times = sequences.event_times[rows]
    shoppers = np.searchsorted(sequences.offsets, rows, side="right") - 1
    starts = np.append(True, (np.diff(times) != 0) | (np.diff(shoppers) != 0))
    order_of_row = starts.cumsum() - 1
    units = np.bincount(order_of_row, sequences.tokens[rows, UNITS]).astype(np.int64)
    order_times, order_shoppers = times[starts], shoppers[starts]

    def of_shopper(order: NDArray[np.int64]) -> NDArray[np.bool_]:
        inside = order < len(units)
        same: NDArray[np.bool_] = inside & (
            order_shoppers[np.minimum(order, len(units) - 1)] == prefixes.shoppers
        )
        return same

    order = np.append(order_of_row, len(units))[np.searchsorted(rows, prefixes.ends)]
    last = np.minimum(order, len(units) - 1)
    under_way = of_shopper(order) & (order_times[last] == prefixes.request_times)
    order = order + (under_way & (prefixes.lengths != ARRIVAL))
    found, last = of_shopper(order), np.minimum(order, len(units) - 1)
    return NextOrders(
        seconds=np.where(found, order_times[last] - prefixes.request_times, NEVER),
        units=np.where(found, units[last], 0),
    )
