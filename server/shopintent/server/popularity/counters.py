"""The counters of a server: how much each product is asked for, whoever asks.

They follow what all servers of a store record, so they agree wherever they are kept, and know
products by nothing but their ids: each release that is open views them through its own catalog.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from shopintent.behavior.events import ADD_TO_CART, FAVORITE, PURCHASE, VIEW_PRODUCT
from shopintent.server.popularity.fading import FadingCounts
from shopintent.server.popularity.shelf import best_rows
from shopintent.server.popularity.trending import (
    LATELY_HALF_LIFE_S,
    NOW_HALF_LIFE_S,
    significance,
)
from shopintent.server.sessions import Counted

WEIGHTS = {VIEW_PRODUCT: 1.0, FAVORITE: 3.0, ADD_TO_CART: 4.0, PURCHASE: 10.0}
"""How many views an event of each type is worth: the closer to money, and the rarer, the more.
Other events are about no product, or against it, and do not count."""

POPULAR_HALF_LIFE_S = 24 * 60 * 60.0

COUNTED = 10
"""Products counted for each that is held of all categories together."""
OVERSHOOT = 1.2
"""Forgetting the least popular one at a time would be slow, so it waits until they are many."""
NOTHING = 1e-3
"""Of a view: what has faded to less, or is left by rounding when all was taken back, is dropped."""
RANKED_EVERY_S = 1.0
"""Ranking thousands of counts takes milliseconds, too much for every event and every request."""


class Popularity:
    """How much each product is asked for, as counts that fade.

    About `10 * capacity` products are counted. `clock` tells unix seconds; `started_at` is when it
    began to count, which is now unless it goes on from a snapshot.
    """

    def __init__(
        self,
        *,
        capacity: int = 1_000,
        half_life_s: float = POPULAR_HALF_LIFE_S,
        clock: Callable[[], float] = time.time,
        started_at: float | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError("capacity must be above 0")
        now = clock()
        self.capacity = capacity
        self.clock = clock
        self.started_at = now if started_at is None else started_at
        self.popular = FadingCounts(half_life_s, now=now)
        """In views: events weigh by their type."""
        self.now = FadingCounts(NOW_HALF_LIFE_S, now=now)
        """In events, like the next: what the two tell apart is a matter of chance per event."""
        self.lately = FadingCounts(LATELY_HALF_LIFE_S, now=now)
        self._trending: list[tuple[str, float]] = []
        self._trending_at = float("-inf")

    @property
    def counts(self) -> tuple[FadingCounts, FadingCounts, FadingCounts]:
        """All three, which hold the same products in the same order."""
        return self.popular, self.now, self.lately

    def count(self, events: Iterable[Counted]) -> None:
        """Counts events, each at its own time, or takes them back."""
        now = self.clock()
        for counts in self.counts:
            counts.advance(now)
        counted = [each for each in events if each.product_id and each.event_type in WEIGHTS]
        product_ids = [each.product_id for each in counted]
        times = np.array([each.event_time for each in counted], float)
        events_each = np.array([each.weight for each in counted], float)
        views_each = events_each * [WEIGHTS[each.event_type] for each in counted]
        self.popular.add(product_ids, views_each, times)
        self.now.add(product_ids, events_each, times)
        self.lately.add(product_ids, events_each, times)

    @property
    def is_full(self) -> bool:
        """Whether more products are counted than need be."""
        return len(self.popular.values) > OVERSHOOT * COUNTED * self.capacity

    def trim(self, category_of: Callable[[str], str]) -> None:
        """Forgets what has faded and, when too many are counted, the least popular.

        Of every category some stay. `category_of` returns "" for what nobody sells, or nobody
        knows yet.
        """
        most = COUNTED * self.capacity
        values, fade = self.popular.values, self.popular.fade(self.clock())
        kept = [key for key, value in values.items() if abs(value) * fade > NOTHING]
        if len(kept) > OVERSHOOT * most:
            kept.sort(key=values.__getitem__, reverse=True)
            numbers: dict[str, int] = {}
            categories = [numbers.setdefault(category_of(key), len(numbers)) for key in kept]
            rows = best_rows(np.array(categories), overall=most // 2, total=most)
            kept = [kept[row] for row in rows.tolist()]
        if len(kept) < len(values):
            for counts in self.counts:
                counts.keep(kept)

    def trending(self) -> list[tuple[str, float]]:
        """Returns what is asked for more now than lately, most significant first; see trending.py.

        It is at most a second old.
        """
        time = self.clock()
        if abs(time - self._trending_at) >= RANKED_EVERY_S:
            found = significance(self.now.counts(time), self.lately.counts(time))
            product_ids = list(self.now.values)
            rising = np.flatnonzero(found)
            order = rising[np.argsort(-found[rising], kind="stable")]
            self._trending = [(product_ids[row], float(found[row])) for row in order.tolist()]
            self._trending_at = time
        return self._trending
