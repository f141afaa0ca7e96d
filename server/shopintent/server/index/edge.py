"""The product index in process: Qdrant's own engine, qdrant-edge.

The engine holds Python's global lock while it works, so a thread would gain nothing and calls are
made on the event loop: about 0.6 ms for the nearest 100 of 50,000 products, 0.1 s to write 1,000.
What takes longer, building and optimizing, is done by another process.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder
from shopintent.artifacts.layout import collection
from shopintent.behavior import Product
from shopintent.server.errors import IndexUnavailable
from shopintent.server.index import (
    Candidate,
    CollectionInfo,
    ProductFilter,
    edge_files,
    schema,
)
from shopintent.server.index.edge_engine import SEARCH_CANDIDATES, point_of, worth_optimizing

logger = logging.getLogger(__name__)

PointId = int | uuid.UUID | str

MOST_LEFT_OUT = 200
"""Products that the visitor must not see, found and then left out; more are for the search."""

POINTS_BETWEEN_YIELDS = 50
"""About 2 ms of work: making points of products is slower than writing them."""


SEARCH = edge.SearchParams(hnsw_ef=SEARCH_CANDIDATES)


class EdgeProductIndex:
    """A ProductIndex for one worker, which writes to a copy of its own; make it with `open`.

    What is written survives the process, through the engine's write-ahead log. Products returned
    lately stay decoded in memory, because reading a payload costs more than finding it.
    """

    def __init__(
        self, folder: edge_files.WorkerFolder, manifest: Manifest, cached_products: int
    ) -> None:
        self._folder = folder
        self._shard = edge.EdgeShard.load(str(folder.shard))
        self._manifest = manifest
        self._collection = collection(manifest.release_id)
        self._cached_products = cached_products
        self._cache: OrderedDict[PointId, Product] = OrderedDict()
        self._closed = False
        self._writing = asyncio.Lock()
        self._written_meanwhile: list[edge.UpdateOperation] | None = None
        """Writes since the copy was made that is being optimized; None when none is."""
        self._optimization: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        release_folder: ReleaseFolder,
        manifest: Manifest,
        *,
        worker: int | str = 0,
        on_progress: Callable[[int, int], None] | None = None,
        cached_products: int = 20_000,
    ) -> EdgeProductIndex:
        """Opens a worker's copy of the release's collection; builds and copies it when needed.

        Building blocks for about 10 s per 50,000 products, as does waiting for another process
        that builds the same. `on_progress(done, total)` counts the products; at `done == total`
        the search graph is still to be built, about half of the time.
        Raises ReleaseError when the release's products cannot be read, ReleaseMismatch when they
        do not fit the manifest and IndexUnavailable when another process is this worker.
        """
        with _as_unavailable(collection(manifest.release_id), _where(path, manifest)):
            folder = edge_files.open_worker_folder(
                path, worker, release_folder, manifest, on_progress
            )
            try:
                return cls(folder, manifest, cached_products)
            except BaseException:
                folder.lock.close()
                raise

    @staticmethod
    def build(
        path: Path,
        release_folder: ReleaseFolder,
        manifest: Manifest,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Builds the release's collection, which `open` only copies then; raises as it does."""
        with _as_unavailable(collection(manifest.release_id), _where(path, manifest)):
            edge_files.build(path, release_folder, manifest, on_progress)

    @property
    def applied_position(self) -> int:
        """The last change of the catalog journal that is known to be written; 0 for none."""
        return self._folder.state.position

    def mark_applied(self, position: int) -> None:
        """Keeps the position of the last change written; after a crash it is never ahead of it."""
        with self._answer(1.0):
            self._folder.change(position=position)

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
        # Leaving out a few afterwards takes the engine a third less than doing it in the search.
        excluded = set(_point_ids(product_filter.excluded_product_ids))
        if limit <= 0 or len(excluded) > MOST_LEFT_OUT:
            excluded = set()
        else:
            product_filter = replace(product_filter, excluded_product_ids=frozenset())
        query = self._query(embedding, limit + len(excluded), product_filter)
        with self._answer(timeout_s):
            points = [each for each in self._shard.query(query) if each.id not in excluded]
            return self._candidates(points[:limit] if excluded else points)

    async def recall(self, embeddings: NDArray[np.float32], *, k: int, timeout_s: float) -> float:
        """Returns the share of the k truly nearest that queries [N, D] find, in [0, 1].

        Other calls are answered in between; an exact search takes about 1 ms per 20,000 products.
        """
        found = wanted = 0
        for embedding in embeddings:
            await asyncio.sleep(0)
            with self._answer(timeout_s):
                near, nearest = (
                    {point.id for point in self._shard.query(query)}
                    for query in (
                        self._query(embedding, k, EVERYTHING),
                        self._query(embedding, k, EVERYTHING, exact=True),
                    )
                )
            found, wanted = found + len(near & nearest), wanted + len(nearest)
        return found / wanted if wanted else 1.0

    @property
    def indexed(self) -> bool:
        """Whether the search graph is up to date and nothing is being optimized."""
        return self._optimization is None and not self._worth_optimizing()

    async def is_optimized(self, *, timeout_s: float) -> bool:
        """Returns whether the search graph holds everything and nothing works on it."""
        return self.indexed

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
            points += [point_of(indexed, self._manifest) for indexed in batch]
            await asyncio.sleep(0)
        ids = [indexed.product.product_id for indexed in products]
        await self._write(edge.UpdateOperation.upsert_points(points), ids, timeout_s)

    async def delete(self, product_ids: Sequence[str], *, timeout_s: float) -> None:
        """Deletes products; ids it does not hold are ignored. The next query sees it."""
        operation = edge.UpdateOperation.delete_points(_point_ids(product_ids))
        await self._write(operation, product_ids, timeout_s)

    async def close(self) -> None:
        """Writes everything to disk and lets another process open the folder."""
        if self._closed:
            return
        self._closed = True
        if self._optimization is not None:
            self._optimization.cancel()
            await asyncio.gather(self._optimization, return_exceptions=True)
        self._shard.flush()
        self._shard.close()
        self._folder.change(safe_position=self._folder.state.position)
        self._folder.lock.close()

    async def _write(
        self, operation: edge.UpdateOperation, product_ids: Sequence[str], timeout_s: float
    ) -> None:
        async with self._alone(timeout_s):
            with self._answer(timeout_s):
                self._shard.update(operation)
                self._uncache(product_ids)
                if self._written_meanwhile is not None:
                    self._written_meanwhile.append(operation)
                self._folder.pile_up(len(product_ids))
        if self._optimization is None and self._worth_optimizing():
            self._optimization = asyncio.create_task(self._optimize())

    @asynccontextmanager
    async def _alone(self, timeout_s: float) -> AsyncIterator[None]:
        """Waits until nobody else writes, which takes long only while the files are copied."""
        try:
            await asyncio.wait_for(self._writing.acquire(), timeout_s)
        except TimeoutError as error:
            why = "its files are being copied to optimize them"
            raise IndexUnavailable(self._collection, why) from error
        try:
            yield
        finally:
            self._writing.release()

    def _worth_optimizing(self) -> bool:
        return worth_optimizing(self._folder.state.piled_up, self._manifest.embedding_size)

    async def _optimize(self) -> None:
        """Optimizes a copy in another process, writes to it what came meanwhile, and takes it."""
        fields = {"collection": self._collection, "piled_up": self._folder.state.piled_up}
        logger.info("optimizing the index", extra={"fields": fields})
        old, name = self._folder.shard, self._folder.next_shard()
        new = self._folder.path / name
        try:
            async with self._writing:
                await asyncio.to_thread(edge_files.copy_shard, old, new)
                safe_position, self._written_meanwhile = self._folder.state.position, []
            await edge_files.optimize_meanwhile(new)
            async with self._writing:
                self._take(new, safe_position)
            await asyncio.to_thread(shutil.rmtree, old)
            logger.info("optimized the index", extra={"fields": {"collection": self._collection}})
        except Exception:
            # It is tried again after as many writes again.
            self._folder.pile_up(-self._folder.state.piled_up)
            logger.exception("the index could not be optimized; queries take longer")
            shutil.rmtree(new, ignore_errors=True)
        finally:
            self._written_meanwhile = self._optimization = None

    def _take(self, new: Path, safe_position: int) -> None:
        """Goes over to another copy of the files; the old one is closed."""
        shard = edge.EdgeShard.load(str(new))
        for operation in self._written_meanwhile or []:
            shard.update(operation)
        self._folder.change(shard=new.name, safe_position=safe_position, piled_up=0)
        self._shard, old = shard, self._shard
        old.close()

    def _query(
        self,
        embedding: NDArray[np.float32],
        limit: int,
        product_filter: ProductFilter,
        exact: bool = False,
    ) -> edge.QueryRequest:
        return edge.QueryRequest(
            limit=max(limit, 0),
            query=edge.Query.Nearest(schema.vector_of(embedding, self._manifest)),
            filter=_filter(product_filter),
            params=edge.SearchParams(exact=True) if exact else SEARCH,
        )

    def _candidates(self, points: Sequence[edge.ScoredPoint]) -> list[Candidate]:
        products = self._products([point.id for point in points])
        return [
            Candidate(product, point.score) for product, point in zip(products, points, strict=True)
        ]

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


EVERYTHING = ProductFilter(out_of_stock_included=True)


def _where(path: Path, manifest: Manifest) -> str:
    folder = path / collection(manifest.release_id)
    return f"the folder {folder}, which may be deleted to be built again"


@contextmanager
def _as_unavailable(collection_name: str, where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # The engine raises Exception itself. What is narrower is not its doing and goes on.
        if type(error) is Exception or isinstance(error, OSError):
            raise IndexUnavailable(collection_name, f"{where}: {error}") from error
        raise


def _point_ids(product_ids: Iterable[str]) -> list[PointId]:
    return [schema.point_id(product_id) for product_id in product_ids]


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
