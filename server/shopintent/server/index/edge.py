"""The product index in process: Qdrant's own engine, qdrant-edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder
from shopintent.server.index import Candidate, CollectionInfo, ProductFilter


class EdgeProductIndex:
    """A ProductIndex for one server process."""

    @classmethod
    def open(
        cls,
        path: Path,
        release_folder: ReleaseFolder,
        manifest: Manifest,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> EdgeProductIndex:
        raise NotImplementedError

    async def describe(self, *, timeout_s: float) -> CollectionInfo:
        raise NotImplementedError

    async def nearest(
        self,
        embedding: NDArray[np.float32],
        *,
        limit: int,
        product_filter: ProductFilter,
        timeout_s: float,
    ) -> list[Candidate]:
        raise NotImplementedError

    async def get(
        self, product_ids: Sequence[str], *, timeout_s: float
    ) -> dict[str, IndexedProduct]:
        raise NotImplementedError

    async def upsert(self, products: Sequence[IndexedProduct], *, timeout_s: float) -> None:
        raise NotImplementedError

    async def delete(self, product_ids: Sequence[str], *, timeout_s: float) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
