"""The embeddings of an embedded collection in memory, for the queries that most calls make."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct
from shopintent.server.index import ProductFilter, schema
from shopintent.server.index.cells import Cells, Nearest

PointId = int | uuid.UUID | str
Found = list[tuple[PointId, float]]
"""Points with their similarities, best first."""

LARGEST = 12_800_000
"""Numbers of all embeddings, 51 MB: 200,000 products of 64. Beyond, the graph costs less."""
READ_AT_ONCE = 5_000
"""Points."""


class EdgeCells:
    """Answers queries that ask for no categories and no prices; make it with `read`."""

    def __init__(self, cells: Cells[PointId], embedding_size: int) -> None:
        self._cells = cells
        self._embedding_size = embedding_size

    @classmethod
    def read(cls, shard: edge.EdgeShard, embedding_size: int) -> EdgeCells | None:
        """Reads all points, 100,000 in about 2 s; returns None when they are too many."""
        if shard.info().points_count * embedding_size > LARGEST:
            return None
        ids: list[PointId] = []
        embeddings = [np.empty((0, embedding_size), dtype=np.float32)]
        in_stock: list[bool] = []
        position = None
        while True:
            points, position = shard.scroll(
                edge.ScrollRequest(position, READ_AT_ONCE, None, [schema.AVAILABILITY], True)
            )
            if points:
                embeddings.append(np.array([each.vector for each in points], dtype=np.float32))
            for each in points:
                ids.append(each.id)
                in_stock.append((each.payload or {}).get(schema.AVAILABILITY) == schema.IN_STOCK)
            if position is None:
                break
        cells = Cells[PointId](embedding_size)
        cells.put(ids, np.concatenate(embeddings), in_stock)
        return cls(cells, embedding_size)

    @property
    def is_too_large(self) -> bool:
        """Whether the graph costs less by now."""
        return len(self._cells) * self._embedding_size > LARGEST

    @staticmethod
    def can_answer(product_filter: ProductFilter) -> bool:
        """Returns whether the filter asks for nothing that is not in memory."""
        bounds = (product_filter.minimum_price, product_filter.maximum_price)
        return not product_filter.categories and bounds == (None, None)

    def nearest(
        self, embedding: NDArray[np.float32], limit: int, product_filter: ProductFilter
    ) -> Found:
        """Returns the points nearest to the embedding [D] that pass the filter."""
        excluded = [schema.point_id(each) for each in product_filter.excluded_product_ids]
        return self._cells.search(
            Nearest(embedding, limit, excluded, product_filter.out_of_stock_included)
        )

    def upsert(self, products: Sequence[IndexedProduct]) -> None:
        """Takes products that were written to the shard."""
        if products:
            self._cells.put(
                [schema.point_id(each.product.product_id) for each in products],
                np.stack([each.embedding for each in products]),
                [each.product.in_stock for each in products],
            )

    def delete(self, product_ids: Sequence[str]) -> None:
        """Forgets products that were deleted from the shard."""
        self._cells.remove([schema.point_id(each) for each in product_ids])
