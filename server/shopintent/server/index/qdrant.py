"""The product index in a Qdrant server or cluster (1.16 or newer), shared by all servers."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder
from shopintent.artifacts.layout import collection
from shopintent.server.errors import IndexUnavailable, ReleaseMismatch
from shopintent.server.index import Candidate, CollectionInfo, ProductFilter, schema

BATCH = 500
POINTS_BETWEEN_YIELDS = 50
"""About 2 ms of work on the event loop."""

PAYLOAD_INDEXES = {
    schema.CATEGORY_PATHS: models.PayloadSchemaType.KEYWORD,
    schema.AVAILABILITY: models.PayloadSchemaType.KEYWORD,
    schema.PRICE: models.PayloadSchemaType.FLOAT,
}

CALL_TIMEOUT_S = 60.0
"""For each call of `load_collection`."""

COMPLETE = "complete"
"""The key of the collection's metadata that is true once everything is loaded and optimized."""


def connect(url: str, *, api_key: str | None = None, grpc_port: int = 6334) -> AsyncQdrantClient:
    """Returns a client of the Qdrant server at `url`; an https url means TLS. Calls nothing yet."""
    return AsyncQdrantClient(
        url=url,
        api_key=api_key,
        grpc_port=grpc_port,
        prefer_grpc=True,
        # Some calls know only this limit. Each is given a shorter one of its own here.
        timeout=math.ceil(CALL_TIMEOUT_S),
        check_compatibility=False,  # It would make a blocking call here.
    )


class QdrantProductIndex:
    """A ProductIndex in Qdrant. It takes over the client and closes it."""

    def __init__(self, client: AsyncQdrantClient, manifest: Manifest) -> None:
        self._client = client
        self._manifest = manifest
        self._collection = collection(manifest.release_id)

    async def describe(self, *, timeout_s: float) -> CollectionInfo:
        """Returns what the collection holds; ReleaseMismatch unless it is there and complete."""
        async with _answer(self._collection, timeout_s):
            info = await _collection_info(self._client, self._collection)
        if info is None or not _is_complete(info, self._manifest):
            why = "it is not there or not loaded completely: run `shopintent-server load-index`"
            raise ReleaseMismatch(self._manifest.release_id, self._collection, why)
        return CollectionInfo(info.points_count or 0, self._manifest.embedding_size)

    async def nearest(
        self,
        embedding: NDArray[np.float32],
        *,
        limit: int,
        product_filter: ProductFilter,
        timeout_s: float,
    ) -> list[Candidate]:
        """Returns the products nearest to the embedding [D] that pass the filter, best first."""
        vector = schema.vector_of(embedding, self._manifest)
        if limit <= 0:
            return []
        async with _answer(self._collection, timeout_s):
            response = await self._client.query_points(
                self._collection,
                query=vector,
                query_filter=_filter(product_filter),
                limit=limit,
                with_payload=[schema.PRODUCT],
                timeout=math.ceil(timeout_s),
            )
        return [
            Candidate(schema.product_of(point.payload or {}), point.score)
            for point in response.points
        ]

    async def get(
        self, product_ids: Sequence[str], *, timeout_s: float
    ) -> dict[str, IndexedProduct]:
        """Returns the products it holds among the ids, by id."""
        async with _answer(self._collection, timeout_s):
            records = await self._client.retrieve(
                self._collection,
                ids=[str(schema.point_id(product_id)) for product_id in product_ids],
                with_payload=[schema.PRODUCT, schema.CONTENT],
                with_vectors=True,
                timeout=math.ceil(timeout_s),
            )
        found = [schema.indexed_product_of(each.payload or {}, each.vector) for each in records]
        return {indexed.product.product_id: indexed for indexed in found}

    async def upsert(self, products: Sequence[IndexedProduct], *, timeout_s: float) -> None:
        """Writes products in one request, all or none; the next query sees them."""
        async with _answer(self._collection, timeout_s):
            points = []
            for batch in schema.in_batches(products, POINTS_BETWEEN_YIELDS):
                points += [_point(indexed, self._manifest) for indexed in batch]
                await asyncio.sleep(0)
            if points:  # Qdrant refuses an empty request.
                written = await self._client.upsert(
                    self._collection, points, wait=True, timeout=math.ceil(timeout_s)
                )
                _check_visible(written, self._collection)

    async def delete(self, product_ids: Sequence[str], *, timeout_s: float) -> None:
        """Deletes products; ids it does not hold are ignored. The next query sees it."""
        point_ids: list[Any] = [str(schema.point_id(product_id)) for product_id in product_ids]
        async with _answer(self._collection, timeout_s):
            if point_ids:
                deleted = await self._client.delete(
                    self._collection,
                    models.PointIdsList(points=point_ids),
                    wait=True,
                    timeout=math.ceil(timeout_s),
                )
                _check_visible(deleted, self._collection)

    async def is_optimized(self, *, timeout_s: float) -> bool:
        """Returns whether Qdrant's optimizers are idle."""
        async with _answer(self._collection, timeout_s):
            info = await _collection_info(self._client, self._collection)
        return info is not None and info.status == models.CollectionStatus.GREEN

    async def recall(self, embeddings: NDArray[np.float32], *, k: int, timeout_s: float) -> float:
        """Returns the share of the k truly nearest that queries [N, D] find, in [0, 1]."""
        found = wanted = 0
        for embedding in embeddings:
            vector = schema.vector_of(embedding, self._manifest)
            near, nearest = [
                await self._nearest_ids(vector, k, exact, timeout_s) for exact in (False, True)
            ]
            found, wanted = found + len(near & nearest), wanted + len(nearest)
        return found / wanted if wanted else 1.0

    async def _nearest_ids(
        self, vector: Any, limit: int, exact: bool, timeout_s: float
    ) -> set[int | str | uuid.UUID]:
        async with _answer(self._collection, timeout_s):
            response = await self._client.query_points(
                self._collection,
                query=vector,
                limit=limit,
                search_params=models.SearchParams(exact=exact),
                with_payload=False,
                timeout=math.ceil(timeout_s),
            )
        return {point.id for point in response.points}

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()


async def load_collection(
    client: AsyncQdrantClient,
    release_folder: ReleaseFolder,
    manifest: Manifest,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    optimize_timeout_s: float = 3600.0,
    poll_s: float = 1.0,
) -> None:
    """Loads the release's products into Qdrant, unless its collection is complete already.

    It can be run again after a failure. `on_progress(done, total)` counts the products; at
    `done == total` Qdrant still builds its search graph, for which up to `optimize_timeout_s`
    seconds are waited. Raises ReleaseError and ReleaseMismatch when the release's files do not
    fit, and IndexUnavailable when Qdrant does not answer.
    """
    name = collection(manifest.release_id)
    async with _answer(name, CALL_TIMEOUT_S):
        info = await _collection_info(client, name)
    if info is not None and _is_complete(info, manifest):
        return
    if info is None or not _is_of(info, manifest):
        await _create(client, name, manifest)
    done = 0
    for batch in schema.release_batches(release_folder, manifest, BATCH):
        async with _answer(name, CALL_TIMEOUT_S):
            points = [_point(indexed, manifest) for indexed in batch]
            written = await client.upsert(
                name, points, wait=True, timeout=math.ceil(CALL_TIMEOUT_S)
            )
            _check_visible(written, name)
        done += len(batch)
        if on_progress:
            on_progress(done, manifest.n_products)
    async with _answer(name, optimize_timeout_s):
        await _optimized(client, name, poll_s)
    async with _answer(name, CALL_TIMEOUT_S):
        await client.update_collection(name, metadata={COMPLETE: True})
        info = await _collection_info(client, name)
    if info is None or not _is_complete(info, manifest):
        why = "Qdrant does not keep the metadata of collections: use Qdrant 1.16 or newer"
        raise ReleaseMismatch(manifest.release_id, name, why)


async def delete_collection(client: AsyncQdrantClient, release_id: str) -> None:
    """Deletes a release's collection, if it is there. Raises IndexUnavailable."""
    name = collection(release_id)
    async with _answer(name, CALL_TIMEOUT_S):
        await client.delete_collection(name)


async def _create(client: AsyncQdrantClient, name: str, manifest: Manifest) -> None:
    async with _answer(name, CALL_TIMEOUT_S):
        # One of an older release of this name, or of an older schema, may be in its place.
        if await client.collection_exists(name):
            await client.delete_collection(name)
        await client.create_collection(
            name,
            vectors_config=models.VectorParams(
                size=manifest.embedding_size, distance=models.Distance.DOT
            ),
            metadata={**schema.description(manifest), COMPLETE: False},
        )
        for field, field_type in PAYLOAD_INDEXES.items():
            await client.create_payload_index(name, field, field_type, wait=True)


async def _optimized(client: AsyncQdrantClient, name: str, poll_s: float) -> None:
    """Returns when Qdrant has built its search graph.

    Green once is not enough: just after the last write its optimizers may not have begun.
    """
    greens = 0
    while greens < 2:
        await asyncio.sleep(poll_s)
        info = await client.get_collection(name)
        greens = greens + 1 if info.status == models.CollectionStatus.GREEN else 0


async def _collection_info(client: AsyncQdrantClient, name: str) -> models.CollectionInfo | None:
    if not await client.collection_exists(name):
        return None
    return await client.get_collection(name)


def _is_of(info: models.CollectionInfo, manifest: Manifest) -> bool:
    metadata = info.config.metadata or {}
    return all(metadata.get(key) == value for key, value in schema.description(manifest).items())


def _is_complete(info: models.CollectionInfo, manifest: Manifest) -> bool:
    return _is_of(info, manifest) and (info.config.metadata or {}).get(COMPLETE) is True


@asynccontextmanager
async def _answer(collection_name: str, timeout_s: float) -> AsyncIterator[None]:
    """Turns every failure to answer in time into IndexUnavailable."""
    if timeout_s <= 0:
        raise IndexUnavailable(collection_name, "no time was left")
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise IndexUnavailable(collection_name, f"Qdrant took over {timeout_s:.3g} s") from error
    except grpc.aio.AioRpcError as error:
        why = f"Qdrant said {error.code().name}: {error.details()}"
        raise IndexUnavailable(collection_name, why) from error
    except (ApiException, QdrantException, OSError, ValueError) as error:
        # What the client raises over HTTP, when told to slow down, and in local mode.
        raise IndexUnavailable(collection_name, f"Qdrant: {error}") from error


def _check_visible(result: models.UpdateResult, collection_name: str) -> None:
    """Raises IndexUnavailable when Qdrant took a write but queries may not see it yet."""
    if result.status != models.UpdateStatus.COMPLETED:
        why = f"a write is {result.status.value}, not completed: try it again"
        raise IndexUnavailable(collection_name, why)


def _point(indexed: IndexedProduct, manifest: Manifest) -> models.PointStruct:
    return models.PointStruct(
        id=str(schema.point_id(indexed.product.product_id)),
        vector=schema.vector_of(indexed.embedding, manifest),
        payload=schema.payload(indexed),
    )


def _filter(product_filter: ProductFilter) -> models.Filter:
    must: list[Any] = []
    must_not: list[Any] = []
    if not product_filter.out_of_stock_included:
        in_stock = models.MatchValue(value=schema.IN_STOCK)
        must.append(models.FieldCondition(key=schema.AVAILABILITY, match=in_stock))
    if product_filter.categories:
        paths = models.MatchAny(any=list(product_filter.categories))
        must.append(models.FieldCondition(key=schema.CATEGORY_PATHS, match=paths))
    minimum, maximum = product_filter.minimum_price, product_filter.maximum_price
    if minimum is not None or maximum is not None:
        bounds = models.Range(gte=minimum, lte=maximum)
        must.append(models.FieldCondition(key=schema.PRICE, range=bounds))
    if product_filter.excluded_product_ids:
        excluded: list[Any] = [
            str(schema.point_id(product_id)) for product_id in product_filter.excluded_product_ids
        ]
        must_not.append(models.HasIdCondition(has_id=excluded))
    return models.Filter(must=must, must_not=must_not)
