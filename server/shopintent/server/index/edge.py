"""The product index in process: Qdrant's own engine, qdrant-edge.

The engine holds Python's global lock while it works, so a thread would gain nothing and calls are
made on the event loop: about 0.6 ms for the nearest 100 of 50,000 products, 0.1 s to write 1,000.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder
from shopintent.artifacts.layout import collection
from shopintent.behavior import Product
from shopintent.server.errors import IndexUnavailable
from shopintent.server.index import Candidate, CollectionInfo, ProductFilter, schema

PointId = int | uuid.UUID | str

BATCH = 500
POINTS_BETWEEN_YIELDS = 50
"""About 2 ms of work: making points of products is slower than writing them."""

INDEXING_THRESHOLD_KB = 5_000
"""Below it a query looks at every vector (20,000 of 64 dimensions: 0.6 ms), above it at a graph."""

PAYLOAD_INDEXES = {
    schema.CATEGORY_PATHS: edge.PayloadSchemaType.Keyword,
    schema.AVAILABILITY: edge.PayloadSchemaType.Keyword,
    schema.PRICE: edge.PayloadSchemaType.Float,
}


class EdgeProductIndex:
    """A ProductIndex for one server process; make it with `open`.

    What is written survives the process, through the engine's write-ahead log. Products returned
    lately stay decoded in memory, because reading a payload costs more than finding it.
    """

    def __init__(
        self,
        shard: edge.EdgeShard,
        lock: IO[bytes],
        manifest: Manifest,
        cached_products: int,
    ) -> None:
        self._shard = shard
        self._lock = lock
        self._manifest = manifest
        self._collection = collection(manifest.release_id)
        self._cached_products = cached_products
        self._cache: OrderedDict[PointId, Product] = OrderedDict()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        release_folder: ReleaseFolder,
        manifest: Manifest,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        cached_products: int = 20_000,
    ) -> EdgeProductIndex:
        """Opens the collection of the release in the folder `path`; builds it first when needed.

        Building blocks for about 10 s per 50,000 products. `on_progress(done, total)` counts the
        products; at `done == total` the search graph is still to be built, about half of the time.
        Raises ReleaseError when the release's products cannot be read, ReleaseMismatch when they
        do not fit the manifest and IndexUnavailable when another process has the folder open.
        """
        name = collection(manifest.release_id)
        where = f"the folder {path}, which may be deleted to be built again"
        with _as_unavailable(name, where), ExitStack() as undo:
            path.mkdir(parents=True, exist_ok=True)
            lock = undo.enter_context(_lock(path, name))
            shard = _open_or_build(path, release_folder, manifest, on_progress)
            undo.pop_all()
        return cls(shard, lock, manifest, cached_products)

    async def describe(self, *, timeout_s: float) -> CollectionInfo:
        """Returns what the collection holds."""
        with self._answer(timeout_s):
            return CollectionInfo(self._shard.info().points_count, self._manifest.embedding_size)

    async def nearest(
        self,
        embedding: NDArray[np.float32],
        *,
        limit: int,
        product_filter: ProductFilter,
        timeout_s: float,
    ) -> list[Candidate]:
        """Returns the products nearest to the embedding [D] that pass the filter, best first."""
        query = edge.QueryRequest(
            limit=max(limit, 0),
            query=edge.Query.Nearest(schema.vector_of(embedding, self._manifest)),
            filter=_filter(product_filter),
        )
        with self._answer(timeout_s):
            points = self._shard.query(query)
            products = self._products([point.id for point in points])
        return [
            Candidate(product, point.score) for product, point in zip(products, points, strict=True)
        ]

    async def get(
        self, product_ids: Sequence[str], *, timeout_s: float
    ) -> dict[str, IndexedProduct]:
        """Returns the products it holds among the ids, by id."""
        point_ids = _point_ids(product_ids)
        with self._answer(timeout_s):
            records = self._shard.retrieve(point_ids, with_payload=True, with_vector=True)
            found = [schema.indexed_product_of(each.payload or {}, each.vector) for each in records]
        return {indexed.product.product_id: indexed for indexed in found}

    async def upsert(self, products: Sequence[IndexedProduct], *, timeout_s: float) -> None:
        """Writes products, all or none; the next query sees them."""
        points = []
        for batch in schema.in_batches(products, POINTS_BETWEEN_YIELDS):
            points += [_point(indexed, self._manifest) for indexed in batch]
            await asyncio.sleep(0)
        with self._answer(timeout_s):
            self._shard.update(edge.UpdateOperation.upsert_points(points))
            self._uncache(indexed.product.product_id for indexed in products)

    async def delete(self, product_ids: Sequence[str], *, timeout_s: float) -> None:
        """Deletes products; ids it does not hold are ignored. The next query sees it."""
        point_ids = _point_ids(product_ids)
        with self._answer(timeout_s):
            self._shard.update(edge.UpdateOperation.delete_points(point_ids))
            self._uncache(product_ids)

    async def close(self) -> None:
        """Writes everything to disk and lets another process open the folder."""
        if not self._closed:
            self._closed = True
            self._shard.flush()
            self._shard.close()
            self._lock.close()

    def _products(self, point_ids: Sequence[PointId]) -> list[Product]:
        cache = self._cache
        missing = [point_id for point_id in point_ids if point_id not in cache]
        if missing:
            for record in self._shard.retrieve(missing, [schema.PRODUCT], False):
                cache[record.id] = schema.product_of(record.payload or {})
        for point_id in point_ids:
            cache.move_to_end(point_id)
        products = [cache[point_id] for point_id in point_ids]
        while len(cache) > self._cached_products:
            cache.popitem(last=False)
        return products

    def _uncache(self, product_ids: Iterable[str]) -> None:
        for product_id in product_ids:
            self._cache.pop(schema.point_id(product_id), None)

    @contextmanager
    def _answer(self, timeout_s: float) -> Iterator[None]:
        # A call cannot be interrupted once it is made, and is over before a timer would ring.
        if timeout_s <= 0:
            raise IndexUnavailable(self._collection, "no time was left")
        with _as_unavailable(self._collection, "the embedded engine"):
            yield


@contextmanager
def _as_unavailable(collection_name: str, where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # The engine raises Exception itself. What is narrower is not its doing and goes on.
        if type(error) is Exception or isinstance(error, OSError):
            raise IndexUnavailable(collection_name, f"{where}: {error}") from error
        raise


def _lock(path: Path, collection_name: str) -> IO[bytes]:
    """Takes the folder for this process until the returned file is closed or the process ends."""
    lock = (path / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        why = (
            f"the folder {path} is open in another process: give each server process a folder of "
            "its own, or let them share a Qdrant server"
        )
        raise IndexUnavailable(collection_name, why) from error
    return lock


def _open_or_build(
    path: Path,
    release_folder: ReleaseFolder,
    manifest: Manifest,
    on_progress: Callable[[int, int], None] | None,
) -> edge.EdgeShard:
    marker = path / "complete.json"
    description = json.dumps(schema.description(manifest))
    if _read(marker) == description:
        shard = edge.EdgeShard.load(str(path / "shard"))
    else:
        marker.unlink(missing_ok=True)
        shutil.rmtree(path / "shard", ignore_errors=True)
        shard = _build(path / "shard", release_folder, manifest, on_progress)
    # Catalog updates pile up beside the graph; a start is the time to take them into it.
    shard.optimize()
    shard.flush()
    marker.write_text(description, encoding="utf-8")
    return shard


def _build(
    path: Path,
    release_folder: ReleaseFolder,
    manifest: Manifest,
    on_progress: Callable[[int, int], None] | None,
) -> edge.EdgeShard:
    threshold = INDEXING_THRESHOLD_KB
    config = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=manifest.embedding_size, distance=edge.Distance.Dot),
        hnsw_config=edge.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=threshold),
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=threshold),
    )
    shard = edge.EdgeShard.create(str(path), config)
    for field, field_type in PAYLOAD_INDEXES.items():
        shard.update(edge.UpdateOperation.create_field_index(field, field_type))
    done = 0
    for batch in schema.release_batches(release_folder, manifest, BATCH):
        points = [_point(indexed, manifest) for indexed in batch]
        shard.update(edge.UpdateOperation.upsert_points(points))
        done += len(batch)
        if on_progress:
            on_progress(done, manifest.n_products)
    return shard


def _read(marker: Path) -> str | None:
    try:
        return marker.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _point_ids(product_ids: Iterable[str]) -> list[PointId]:
    return [schema.point_id(product_id) for product_id in product_ids]


def _point(indexed: IndexedProduct, manifest: Manifest) -> edge.Point:
    vector = schema.vector_of(indexed.embedding, manifest)
    return edge.Point(schema.point_id(indexed.product.product_id), vector, schema.payload(indexed))


def _filter(product_filter: ProductFilter) -> edge.Filter:
    must: list[Any] = []
    must_not: list[Any] = []
    if not product_filter.out_of_stock_included:
        in_stock = edge.MatchValue(schema.IN_STOCK)
        must.append(edge.FieldCondition(schema.AVAILABILITY, match=in_stock))
    if product_filter.categories:
        paths = edge.MatchAny(list(product_filter.categories))
        must.append(edge.FieldCondition(schema.CATEGORY_PATHS, match=paths))
    minimum, maximum = product_filter.minimum_price, product_filter.maximum_price
    if minimum is not None or maximum is not None:
        bounds = edge.RangeFloat(gte=minimum, lte=maximum)
        must.append(edge.FieldCondition(schema.PRICE, range=bounds))
    if product_filter.excluded_product_ids:
        excluded = _point_ids(product_filter.excluded_product_ids)
        must_not.append(edge.HasIdCondition(set(excluded)))
    return edge.Filter(must=must, must_not=must_not)
