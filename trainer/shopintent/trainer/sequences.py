"""Every shopper's behavior with its labels, in flat arrays that training and evaluation cut
windows from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.behavior import Behavior

NEVER = np.iinfo(np.int64).max // 2
"""The time of a purchase that the log does not hold."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """Shoppers' events one after the other; shopper i owns rows offsets[i] to offsets[i + 1]."""

    shopper_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    """[shoppers + 1]"""
    tokens: NDArray[np.int32]
    """[N, 8]"""
    event_times: NDArray[np.int64]
    """[N], ascending within a shopper."""
    session_ids: NDArray[np.int64]
    """[N]"""
    catalog_rows: NDArray[np.int64]
    """[N], the row of each event's product in the catalog, or -1."""
    actions: NDArray[np.int64]
    """[N], the action that each event is."""
    purchases: NDArray[np.bool_]
    """[N], whether each event is a purchase."""
    next_actions: NDArray[np.int64]
    """[N], the action that follows each event."""
    next_purchase_times: NDArray[np.int64]
    """[N], when the shopper buys next after each event, or NEVER."""
    returns: NDArray[np.bool_]
    """[N], whether the next event starts another visit of the same shopper."""

    def __len__(self) -> int:
        return len(self.shopper_ids)

    def behavior(self, shopper: int, until: int) -> Behavior:
        """Returns the shopper's events before row `until`."""
        rows = slice(int(self.offsets[shopper]), until)
        return Behavior(self.tokens[rows], self.event_times[rows])

    def any_product_twice(self) -> bool:
        """Returns whether any shopper comes back to a product."""
        known = self.catalog_rows >= 0
        shoppers = np.repeat(np.arange(len(self)), np.diff(self.offsets))[known]
        pairs = shoppers * (int(self.catalog_rows.max(initial=0)) + 1) + self.catalog_rows[known]
        pairs.sort()
        return bool((pairs[1:] == pairs[:-1]).any())
