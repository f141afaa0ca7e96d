"""The product index in a Qdrant server or cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder
from shopintent.server.index import Candidate, CollectionInfo, ProductFilter


def connect(url: str, *, api_key: str | None = None, grpc_port: int = 6334) -> AsyncQdrantClient:
    raise NotImplementedError


async def load_collection(
    client: AsyncQdrantClient,
    release_folder: ReleaseFolder,
    manifest: Manifest,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    timeout_s: float = 600.0,
) -> None:
    raise NotImplementedError


class QdrantProductIndex:
    """A ProductIndex shared by any number of servers."""

    def __init__(self, client: AsyncQdrantClient, manifest: Manifest) -> None:
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
