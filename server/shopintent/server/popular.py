"""Products popular now, in memory: what is shown when nothing personal can be."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Sequence

from shopintent.artifacts import Manifest
from shopintent.behavior import Event, Product
from shopintent.behavior.events import ADD_TO_CART, FAVORITE, PURCHASE, VIEW_PRODUCT
from shopintent.server.filters import matches
from shopintent.server.index import ProductFilter, ProductIndex

WEIGHTS = {VIEW_PRODUCT: 1.0, FAVORITE: 3.0, ADD_TO_CART: 4.0, PURCHASE: 10.0}
"""How many views an event of each type is worth: the closer to money, and the rarer, the more.
Other events are about no product, or against it, and do not count."""

HOUR_S = 60 * 60
WEEK_S = 7 * 24 * HOUR_S

REFRESH_BATCH = 100
"""Products read from the index at once: about 1 ms of the embedded engine."""
RANKED_EVERY_S = 1.0
"""Ranking 5,000 counts takes milliseconds, too much for every event and every request."""
REBASE_HALF_LIVES = 64.0


class PopularNow:
    """The most popular products and how popular they are, as counts of views that fade.

    A count halves every `half_life_s` seconds; `clock` tells unix seconds. At most `capacity`
    products are held whole and `4 * capacity` more are counted, so that one can rise. The order is
    at most a second old. Nothing here waits for another system but `refresh`.
    """

    def __init__(
        self,
        products: Sequence[Product],
        counts: Sequence[float],
        *,
        capacity: int = 1_000,
        half_life_s: float = 24 * HOUR_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if capacity < 1 or half_life_s <= 0:
            raise ValueError("capacity and half_life_s must be above 0")
        self._capacity = capacity
        self._half_life_s = half_life_s
        self._clock = clock
        self._products = {product.product_id: product for product in products[:capacity]}
        # Counts are kept as they would be at `_base_time`, later events weighing more, so that
        # fading never touches them and never changes their order.
        self._base_time = clock()
        padded = [*counts, *[0.0] * len(products)]
        self._counts = dict(zip((p.product_id for p in products), padded, strict=False))
        self._ranks: dict[str, int] = {}
        self._ranked_at = -math.inf
        self._changed = True
        self._written: set[str] = set()
        """Ids written since the last look into the index: what it said of them is outdated."""

    @classmethod
    def from_release(
        cls,
        manifest: Manifest,
        first_products: Iterable[Product],
        *,
        capacity: int = 1_000,
        half_life_s: float = 24 * HOUR_S,
        clock: Callable[[], float] = time.time,
    ) -> PopularNow:
        """Starts from the popularity of the release's first products, as if it were of today."""
        # A steady stream of n events a week keeps a fading count at n * half-life / (ln 2 * week).
        steady = half_life_s / (math.log(2) * WEEK_S)
        counts = [events * steady for events in manifest.popularity]
        products = list(first_products)
        return cls(products, counts, capacity=capacity, half_life_s=half_life_s, clock=clock)

    def record(self, events: Iterable[Event]) -> None:
        """Counts events at their own time, so that old ones sent late weigh little."""
        now = self._clock()
        self._rebase(now)
        for event in events:
            weight = WEIGHTS.get(event.event_type, 0.0)
            if weight and event.product_id:
                age = (min(event.event_time, now) - self._base_time) / self._half_life_s
                held = self._counts.get(event.product_id, 0.0)
                self._counts[event.product_id] = held + weight * math.exp2(max(age, -500.0))
        self._trim()
        self._changed = True

    def top(self, limit: int, product_filter: ProductFilter) -> list[tuple[Product, float]]:
        """Returns products that pass the filter, most popular first, each with its count now."""
        fade = math.exp2((self._base_time - self._clock()) / self._half_life_s)
        best: list[tuple[Product, float]] = []
        for product_id in self._ordered():
            if len(best) >= limit:
                break
            product = self._products.get(product_id)
            if product is not None and matches(product, product_filter):
                best.append((product, self._counts.get(product_id, 0.0) * fade))
        return best

    def percentile(self, product_id: str) -> float:
        """Returns 1 for the most popular product, falling evenly to 0 for one without a count."""
        ranks = self._ordered()
        rank = ranks.get(product_id)
        return 0.0 if rank is None else 1.0 - rank / len(ranks)

    def update(self, products: Iterable[Product]) -> None:
        """Takes over products just written to the catalog; those it does not hold are ignored."""
        for product in products:
            self._written.add(product.product_id)
            if product.product_id in self._products:
                self._products[product.product_id] = product

    def forget(self, product_ids: Iterable[str]) -> None:
        """Drops products just deleted from the catalog."""
        for product_id in product_ids:
            self._written.add(product_id)
            self._drop(product_id)

    async def refresh(self, index: ProductIndex, *, timeout_s: float) -> None:
        """Reads the most popular products anew: risen ones come, deleted ones go, prices follow.

        Call it every minute or so, one call at a time. Raises IndexUnavailable; then what was held
        stays. `timeout_s` is for each look into the index.
        """
        ordered = list(self._ordered())
        held: list[str] = []
        for start in range(0, len(ordered), REFRESH_BATCH):
            if len(held) >= self._capacity:
                break
            batch = ordered[start : start + REFRESH_BATCH]
            held += await self._read(batch, index, timeout_s)
        kept = set(held[: self._capacity])
        self._products = {key: product for key, product in self._products.items() if key in kept}

    async def _read(self, batch: Sequence[str], index: ProductIndex, timeout_s: float) -> list[str]:
        """Reads products from the index, and returns the ids of those that are held now."""
        self._written.clear()
        found = await index.get(batch, timeout_s=timeout_s)
        for product_id in batch:
            if product_id in self._written:
                continue
            if product_id in found:
                self._products[product_id] = found[product_id].product
            else:
                self._drop(product_id)
        return [product_id for product_id in batch if product_id in self._products]

    def _ordered(self) -> dict[str, int]:
        """Returns the rank of every counted product, in order: 0 is the most popular."""
        now = self._clock()
        if self._changed and abs(now - self._ranked_at) >= RANKED_EVERY_S:
            ordered = sorted(self._counts, key=self._counts.__getitem__, reverse=True)
            self._ranks = {product_id: rank for rank, product_id in enumerate(ordered)}
            self._ranked_at, self._changed = now, False
        return self._ranks

    def _drop(self, product_id: str) -> None:
        self._products.pop(product_id, None)
        self._changed |= self._counts.pop(product_id, None) is not None

    def _trim(self) -> None:
        """Stops counting the least popular, but only now and then: one at a time would be slow."""
        if len(self._counts) > 6 * self._capacity:
            kept = heapq.nlargest(5 * self._capacity, self._counts, key=self._counts.__getitem__)
            self._counts = {product_id: self._counts[product_id] for product_id in kept}

    def _rebase(self, now: float) -> None:
        """Moves the base time forward before weights outgrow a float."""
        half_lives = (now - self._base_time) / self._half_life_s
        if half_lives > REBASE_HALF_LIVES:
            fade = math.exp2(-half_lives)
            self._counts = {key: count * fade for key, count in self._counts.items()}
            self._base_time = now
