"""The orders of every shopper: what follows a request, and what came before it.

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
HOUR_S = 3_600


@dataclass(frozen=True, eq=False)
class Orders:
    """P purchases in O orders, one shopper after the other."""

    rows: NDArray[np.int64]  # [P], of the sequences
    row_units: NDArray[np.int64]  # [P]
    order_of_row: NDArray[np.int64]  # [P]
    times: NDArray[np.int64]  # [O]
    shoppers: NDArray[np.int64]  # [O]
    units: NDArray[np.int64]  # [O]

    def __len__(self) -> int:
        return len(self.times)

    def of_shoppers(
        self, orders: NDArray[np.int64], shoppers: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Returns whether orders [N] exist and are those of shoppers [N]."""
        there = np.minimum(orders, len(self) - 1)
        found: NDArray[np.bool_] = (orders < len(self)) & (self.shoppers[there] == shoppers)
        return found


def orders_before(sequences: Sequences, before: int) -> Orders:
    """Returns the orders before a time, in unix seconds."""
    rows = np.flatnonzero(sequences.purchases & (sequences.event_times < before))
    times, units = sequences.event_times[rows], sequences.tokens[rows, UNITS].astype(np.int64)
    shoppers = np.searchsorted(sequences.offsets, rows, side="right") - 1
    starts = np.ones(len(rows), bool)
    starts[1:] = (np.diff(times) != 0) | (np.diff(shoppers) != 0)
    order_of_row = starts.cumsum() - 1
    return Orders(
        rows=rows,
        row_units=units,
        order_of_row=order_of_row,
        times=times[starts],
        shoppers=shoppers[starts],
        units=np.bincount(order_of_row, units).astype(np.int64),
    )


@dataclass(frozen=True, eq=False)
class NextOrders:
    """The next order after each of N requests, as far as the log goes."""

    seconds: NDArray[np.int64]
    """[N], from the request to the order; NEVER where the log holds none."""
    units: NDArray[np.int64]
    """[N], of the whole order; 0 where the log holds none."""


def next_orders(sequences: Sequences, prefixes: Prefixes, *, observed_before: int) -> NextOrders:
    """Returns the shopper's first order after each prefix and before the time `observed_before`."""
    orders = orders_before(sequences, observed_before)
    if not len(orders):
        return NextOrders(np.full(len(prefixes), NEVER), np.zeros(len(prefixes), np.int64))
    following = np.searchsorted(orders.rows, prefixes.ends)
    order = np.append(orders.order_of_row, len(orders))[following]
    there = np.minimum(order, len(orders) - 1)
    under_way = orders.of_shoppers(order, prefixes.shoppers)
    under_way &= orders.times[there] == prefixes.request_times
    order = order + (under_way & (prefixes.lengths != ARRIVAL))
    found, there = orders.of_shoppers(order, prefixes.shoppers), np.minimum(order, len(orders) - 1)
    return NextOrders(
        seconds=np.where(found, orders.times[there] - prefixes.request_times, NEVER),
        units=np.where(found, orders.units[there], 0),
    )


@dataclass(frozen=True, eq=False)
class PastOrders:
    """What each of N requests knows of the shopper's orders, one under way included."""

    counts: NDArray[np.int64]  # [N]
    units: NDArray[np.int64]
    """[N], of all of them."""
    interval_s: NDArray[np.int64]
    """[N], between the last two; 0 with fewer."""


def past_orders(sequences: Sequences, prefixes: Prefixes) -> PastOrders:
    """Returns the orders that each prefix has seen."""
    orders = orders_before(sequences, NEVER)
    first = np.searchsorted(orders.rows, sequences.offsets[prefixes.shoppers])
    behind = np.searchsorted(orders.rows, prefixes.ends)
    # How many orders have begun before each purchase, and before none that follows.
    begun = np.append(0, orders.order_of_row + 1)
    counts = begun[behind] - begun[first]
    units = np.append(0, orders.row_units.cumsum())
    several = counts > 1
    last = np.where(several, begun[behind] - 1, 1)
    pauses = np.append(0, np.diff(orders.times))
    interval = np.zeros(len(prefixes), np.int64)
    interval[several] = pauses[last[several]]
    return PastOrders(counts, units[behind] - units[first], interval)


def purchase_window_s(*, observed_from: int, cut: int, observed_until: int) -> int:
    """Returns how soon an order must come for the time until it to be expected, in seconds.

    Half of the held-out time, so that it can be judged on the other half; at most a quarter of the
    time that is learned from. In whole hours where that is at least one.
    """
    window = min((observed_until - cut) // 2, (cut - observed_from) // 4)
    return window // HOUR_S * HOUR_S or window


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
