"""Products popular now and trending, of one release: what is shown when nothing personal can be."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import merge
from itertools import chain, groupby, islice

from shopintent.artifacts import Manifest
from shopintent.behavior import Product
from shopintent.server.filters import matches
from shopintent.server.index import ProductFilter, ProductIndex
from shopintent.server.popularity.counters import NOTHING, RANKED_EVERY_S, Popularity
from shopintent.server.popularity.shelves import Shelves

RANKED = 5
"""Products of all categories together that are put in order for each that the counters hold so."""
WEEK_S = 7 * 24 * 60 * 60
REFRESH_BATCH = 100
"""Products read from the index at once: about 1 ms of the embedded engine."""


class PopularNow:
    """How popular the products of a release are: the counters of the server through its catalog.

    `products` are those of the release that are held from the start, the most popular of each
    category among them, in order of the popularity that its log told of; `counts` are of the first
    ones, and are worth what they say when the counters began. What is counted is held too, once a
    `refresh` has found it in the index. The order is at most a second old. Nothing here waits for
    another system but `refresh`.
    """

    def __init__(
        self,
        products: Sequence[Product],
        counts: Sequence[float],
        popularity: Popularity | None = None,
    ) -> None:
        self.popularity = popularity or Popularity()
        ids = [product.product_id for product in products]
        self._seeded = {key: count for key, count in zip(ids, counts, strict=False) if count > 0}
        """The counts that the release came with."""
        self._release_order = {key: place for place, key in enumerate(ids)}
        """The order of the release, of all that it came with."""
        self._shelves = Shelves()
        for product in products:
            self._shelves.put(product)
        self._missing: set[str] = set()
        """What is counted, and not in the catalog as far as is known."""
        self._ranking = _Ranking([], {}, 0.0, 0.0)
        self._ranked_at = -math.inf
        self._turn = 0
        self._written: set[str] = set()
        """Ids written since the last look into the index: what it said of them is outdated."""

    @classmethod
    def from_release(
        cls, manifest: Manifest, products: Sequence[Product], popularity: Popularity | None = None
    ) -> PopularNow:
        """Views the counters with the popularity of a release, of whose products these are held.

        They begin with its first ones: as many as the counters hold of all categories together.
        """
        popularity = popularity or Popularity()
        # A steady stream of n events a week keeps a fading count at n * half-life / (ln 2 * week).
        steady = popularity.popular.half_life_s / (math.log(2) * WEEK_S)
        counts = [events * steady for events in manifest.popularity[: popularity.capacity]]
        return cls(products, counts, popularity)

    def top(self, limit: int, product_filter: ProductFilter) -> list[tuple[Product, float]]:
        """Returns products that pass the filter, most popular first, each with its count."""
        counts = self._ranked().counts
        best = _first(limit, self._candidates(product_filter.categories), product_filter)
        return [(each, counts.get(each.product_id, 0.0)) for each in best]

    def top_of(self, category: str, limit: int, product_filter: ProductFilter) -> list[Product]:
        """Returns the most popular products of a category that pass the filter as well."""
        return _first(limit, self._candidates((category,)), product_filter)

    def trending(self, limit: int, product_filter: ProductFilter) -> list[Product]:
        """Returns products that pass the filter, most significantly rising first; may be none."""
        held = (self._shelves.products.get(key) for key, _ in self.popularity.trending())
        return _first(limit, filter(None, held), product_filter)

    def category_of(self, product_id: str) -> str:
        """Returns the main category of a product; "" where the product is not held."""
        product = self._shelves.products.get(product_id)
        return product.categories[0] if product is not None and product.categories else ""

    def percentile(self, product_id: str) -> float:
        """Returns 1 for the most popular product, falling evenly to 0 for one without a count.

        Of very many only the first `5 * capacity` of the counters have more than 0.
        """
        return self._ranked().percentiles.get(product_id, 0.0)

    def update(self, products: Iterable[Product]) -> None:
        """Takes over products just written to the catalog; those nobody asks for are ignored."""
        for product in products:
            product_id = product.product_id
            self._written.add(product_id)
            self._missing.discard(product_id)
            if product_id in self._shelves.products or self._is_counted(product_id):
                self._shelves.put(product)

    def forget(self, product_ids: Iterable[str]) -> None:
        """Drops products just deleted from the catalog."""
        for product_id in product_ids:
            self._written.add(product_id)
            self._drop(product_id)

    async def refresh(self, index: ProductIndex, *, timeout_s: float) -> None:
        """Reads popular products anew: risen ones come, deleted ones go, prices follow.

        Call it every minute or so, one call at a time: each time it reads the most popular ones,
        those not read before, and a part of the others. Raises IndexUnavailable; then what was held
        stays. `timeout_s` is for each look into the index.
        """
        due = self._due()
        for start in range(0, len(due), REFRESH_BATCH):
            await self._read(due[start : start + REFRESH_BATCH], index, timeout_s)
            await asyncio.sleep(0)  # An index in this process answers without ever waiting.
        uncounted = [key for key in self._shelves.products if not self._is_known(key)]
        for product_id in uncounted:
            self._shelves.drop(product_id)
        self._missing &= self.popularity.popular.values.keys()

    def _due(self) -> list[str]:
        """Returns the ids to look up: the others in about equal shares over several calls."""
        capacity, held, missing = self.popularity.capacity, self._shelves.products, self._missing
        first = list(islice(chain(self._ranked().order, self._release_order), capacity))
        counted = self.popularity.popular.values
        unread = (key for key in counted if key not in held and key not in missing)
        others = [*held, *missing]
        turns = len(others) // capacity + 1
        self._turn += 1
        return list(dict.fromkeys((*first, *unread, *others[self._turn % turns :: turns])))

    async def _read(self, batch: Sequence[str], index: ProductIndex, timeout_s: float) -> None:
        """Reads products from the index, and holds those that are there."""
        self._written.clear()
        found = await index.get(batch, timeout_s=timeout_s)
        for product_id in batch:
            if product_id in self._written:
                continue
            if product_id in found:
                self._missing.discard(product_id)
                self._shelves.put(found[product_id].product)
            else:
                self._drop(product_id)

    def _is_counted(self, product_id: str) -> bool:
        return product_id in self.popularity.popular.values

    def _is_known(self, product_id: str) -> bool:
        return product_id in self._release_order or self._is_counted(product_id)

    def _drop(self, product_id: str) -> None:
        self._shelves.drop(product_id)
        self._seeded.pop(product_id, None)
        self._release_order.pop(product_id, None)
        self._missing.add(product_id)

    def _candidates(self, categories: Sequence[str]) -> Iterator[Product]:
        """Yields what is held of any of the categories, or of all, most popular first."""
        ranking, products = self._ranked(), self._shelves.products
        if not categories:
            rest = (key for key in self._release_order if key not in ranking.counts)
            ids: Iterable[str] = chain(ranking.order, rest)
        elif len(categories) == 1:
            ids = self._under(categories[0])
        else:
            merged = merge(*map(self._under, categories), key=self._place)
            ids = (key for key, _ in groupby(merged))
        return (products[key] for key in ids if key in products)

    def _under(self, path: str) -> list[str]:
        """Returns the ids of what stands under a category path, most popular first."""
        held = self._ranking.under.get(path)
        if held is None and path in self._shelves.categories:
            held = sorted(self._shelves.categories[path], key=self._place)
            self._ranking.under[path] = held
        return held or []

    def _place(self, product_id: str) -> tuple[float, float]:
        """Returns what orders products: their counts, and where these are equal the release."""
        live = self.popularity.popular.values.get(product_id, 0.0) * self._ranking.fade
        count = live if live > NOTHING else 0.0
        count += self._seeded.get(product_id, 0.0) * self._ranking.seeded_fade
        return -count, self._release_order.get(product_id, math.inf)

    def _ranked(self) -> _Ranking:
        now = self.popularity.clock()
        if abs(now - self._ranked_at) >= RANKED_EVERY_S:
            self._ranking, self._ranked_at = self._rank(now), now
        return self._ranking

    def _rank(self, now: float) -> _Ranking:
        """Orders the most popular products of all categories together."""
        live = self.popularity.popular
        age_s = max(now - self.popularity.started_at, 0.0)
        # Faded to nothing it still tells an order, behind all that is counted.
        seeded_fade = math.exp2(-age_s / live.half_life_s)
        counts = dict(live.most(RANKED * self.popularity.capacity, now, above=NOTHING))
        for key in self._missing.intersection(counts):
            del counts[key]
        for key, count in self._seeded.items():
            counts[key] = counts.get(key, 0.0) + seeded_fade * count
        order = sorted(counts, key=counts.__getitem__, reverse=True)
        return _Ranking(order, counts, live.fade(now), seeded_fade)


@dataclass(frozen=True)
class _Ranking:
    """The order of products at one moment."""

    order: list[str]
    """The most popular of all, most popular first."""
    counts: dict[str, float]
    fade: float
    """Of what is counted live."""
    seeded_fade: float
    """Of the counts that the release came with."""
    under: dict[str, list[str]] = field(default_factory=dict)
    """By category path, as far as asked for, what stands under it in its order."""

    @cached_property
    def percentiles(self) -> dict[str, float]:
        """Of everything with a count, falling evenly from 1."""
        n_counted = len(self.order)
        return {key: 1.0 - place / n_counted for place, key in enumerate(self.order)}


def _first(
    limit: int, candidates: Iterable[Product], product_filter: ProductFilter
) -> list[Product]:
    """Returns the first of the candidates that pass the filter."""
    passing = (each for each in candidates if matches(each, product_filter))
    return list(islice(passing, max(limit, 0)))
