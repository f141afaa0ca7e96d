"""An exact product index in memory; the contract suite holds it to the same promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct
from shopintent.server.errors import IndexUnavailable, ReleaseMismatch
from shopintent.server.filters import matches
from shopintent.server.index import Candidate, CollectionInfo, ProductFilter


class FakeProductIndex:
    """Set `down` to make every call fail as an index does that cannot be reached."""

    def __init__(self, products: Iterable[IndexedProduct] = (), *, embedding_size: int) -> None:
        self.products = {indexed.product.product_id: indexed for indexed in products}
        self.embedding_size = embedding_size
        self.down = False
        self.optimized = True
        self.measured_recall = 1.0

    async def describe(self, *, timeout_s: float) -> CollectionInfo:
        self._answer(timeout_s)
        return CollectionInfo(len(self.products), self.embedding_size)

    async def nearest(
        self,
        embedding: NDArray[np.float32],
        *,
        limit: int,
        product_filter: ProductFilter,
        timeout_s: float,
    ) -> list[Candidate]:
        self._answer(timeout_s)
        self._check(embedding)
        passing = [p for p in self.products.values() if matches(p.product, product_filter)]
        candidates = [Candidate(p.product, float(p.embedding @ embedding)) for p in passing]
        return sorted(candidates, key=lambda each: -each.similarity)[: max(limit, 0)]

    async def get(
        self, product_ids: Sequence[str], *, timeout_s: float
    ) -> dict[str, IndexedProduct]:
        self._answer(timeout_s)
        return {key: self.products[key] for key in product_ids if key in self.products}

    async def upsert(self, products: Sequence[IndexedProduct], *, timeout_s: float) -> None:
        self._answer(timeout_s)
        for indexed in products:
            self._check(indexed.embedding)
        self.products |= {indexed.product.product_id: indexed for indexed in products}

    async def delete(self, product_ids: Sequence[str], *, timeout_s: float) -> None:
        self._answer(timeout_s)
        for product_id in product_ids:
            self.products.pop(product_id, None)

    async def is_optimized(self, *, timeout_s: float) -> bool:
        self._answer(timeout_s)
        return self.optimized

    async def recall(self, embeddings: NDArray[np.float32], *, k: int, timeout_s: float) -> float:
        self._answer(timeout_s)
        return self.measured_recall

    async def close(self) -> None:
        """Nothing to release."""

    def _answer(self, timeout_s: float) -> None:
        if self.down or timeout_s <= 0:
            raise IndexUnavailable("fake", "it is down" if self.down else "no time was left")

    def _check(self, embedding: NDArray[np.float32]) -> None:
        if embedding.shape != (self.embedding_size,):
            why = f"an embedding has the shape {embedding.shape}, not ({self.embedding_size},)"
            raise ReleaseMismatch("fake", "fake", why)
