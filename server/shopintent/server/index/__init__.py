"""The product index: the nearest products that pass a filter, and the catalog itself.

The payload is the product, so an answer needs no second look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct
from shopintent.behavior import Product


@dataclass(frozen=True)
class ProductFilter:
    """Which products may be returned; all conditions must hold together."""

    categories: tuple[str, ...] = ()
    """Under any of these paths; empty does not narrow."""
    excluded_product_ids: frozenset[str] = frozenset()
    minimum_price: float | None = None
    """Inclusive. Products without a price fail either bound."""
    maximum_price: float | None = None
    """Inclusive."""
    out_of_stock_included: bool = False


class Candidate(NamedTuple):
    """A product that may be recommended."""

    product: Product
    similarity: float
    """Dot product of the behavior and the product embedding, in [-1, 1]."""


@dataclass(frozen=True)
class CollectionInfo:
    """What an index holds."""

    n_products: int
    embedding_size: int


class ProductIndex(Protocol):
    """The product collection of one release.

    Every method raises IndexUnavailable when the index does not answer within `timeout_s` seconds.
    """

    async def describe(self, *, timeout_s: float) -> CollectionInfo:
        """Returns what the collection holds; raises ReleaseMismatch when there is no collection."""

    async def nearest(
        self,
        embedding: NDArray[np.float32],
        *,
        limit: int,
        product_filter: ProductFilter,
        timeout_s: float,
    ) -> list[Candidate]:
        """Returns the products nearest to the embedding [D] that pass the filter, best first."""

    async def get(
        self, product_ids: Sequence[str], *, timeout_s: float
    ) -> dict[str, IndexedProduct]:
        """Returns the products it holds among the ids, by id."""

    async def upsert(self, products: Sequence[IndexedProduct], *, timeout_s: float) -> None:
        """Writes products, all or none; the next query sees them."""

    async def delete(self, product_ids: Sequence[str], *, timeout_s: float) -> None:
        """Deletes products; ids it does not hold are ignored. The next query sees it."""

    async def is_optimized(self, *, timeout_s: float) -> bool:
        """Returns whether the search graph holds everything and nothing works on it."""

    async def recall(self, embeddings: NDArray[np.float32], *, k: int, timeout_s: float) -> float:
        """Returns the share of the k truly nearest that queries [N, D] find, in [0, 1].

        `timeout_s` is for each query.
        """

    async def close(self) -> None:
        """Releases connections and files; what was written is durable."""


@runtime_checkable
class RemembersChanges(Protocol):
    """An index of one process alone, which knows how far it holds the catalog journal."""

    @property
    def applied_position(self) -> int:
        """The last change of the journal that is known to be written; 0 for none."""

    def mark_applied(self, position: int) -> None:
        """Keeps the position of the last change written."""
