"""What the tests of every product index share: exact search, and one way to ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct
from shopintent.server.filters import matches
from shopintent.server.index import ProductFilter, ProductIndex
from support import shop as shops

TIMEOUT_S = 10.0
EVERYTHING = ProductFilter(out_of_stock_included=True)


def query(seed: int = 100) -> NDArray[np.float32]:
    return shops.unit_vectors(1, seed=seed).reshape(-1)


def expected(
    shop: Sequence[IndexedProduct], embedding: NDArray[np.float32], product_filter: ProductFilter
) -> list[str]:
    """Returns the ids of all products that pass, by an exact search."""
    passing = [each for each in shop if matches(each.product, product_filter)]
    passing.sort(key=lambda each: -float(each.embedding @ embedding))
    return [each.product.product_id for each in passing]


async def nearest_ids(
    index: ProductIndex, product_filter: ProductFilter, *, limit: int = 1_000, seed: int = 100
) -> list[str]:
    candidates = await index.nearest(
        query(seed), limit=limit, product_filter=product_filter, timeout_s=TIMEOUT_S
    )
    return [candidate.product.product_id for candidate in candidates]
