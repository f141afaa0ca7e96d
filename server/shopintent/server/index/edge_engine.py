"""How qdrant-edge is set up for a product collection, and how one is filled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qdrant_edge as edge

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder
from shopintent.server.index import schema

BATCH = 500

INDEXING_THRESHOLD_KB = 5_000
"""Below it a query looks at every vector (20,000 of 64 dimensions: 0.6 ms), above it at a graph."""

GRAPH_LINKS, GRAPH_CANDIDATES = 48, 200
"""Of the search graph, m and ef_construct of HNSW."""
SEARCH_CANDIDATES = 384
"""ef of HNSW. Behaviors do not lie where products lie, and a search for them may end in a far
corner of the graph. 50,000 products of 64 dimensions, recall@20 of 300 behaviors, mean and worst,
beside an exact search of 2 ms: 0.93 and 0.0 with 16, 100 and 100 for these three; 0.993 and 0.8 in
0.38 ms with 48, 200 and 192, but 0.976 of another collection; 0.998 and 0.8 in 0.50 ms so."""

PAYLOAD_INDEXES = {
    schema.CATEGORY_PATHS: edge.PayloadSchemaType.Keyword,
    schema.AVAILABILITY: edge.PayloadSchemaType.Keyword,
    schema.PRICE: edge.PayloadSchemaType.Float,
}


def build(
    path: Path,
    release_folder: ReleaseFolder,
    manifest: Manifest,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Writes the collection of a release into a new folder, with its search graph.

    Raises ReleaseError when the release's products cannot be read and ReleaseMismatch when they do
    not fit the manifest.
    """
    threshold = INDEXING_THRESHOLD_KB
    config = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=manifest.embedding_size, distance=edge.Distance.Dot),
        hnsw_config=edge.HnswIndexConfig(
            m=GRAPH_LINKS, ef_construct=GRAPH_CANDIDATES, full_scan_threshold=threshold
        ),
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=threshold),
    )
    shard = edge.EdgeShard.create(str(path), config)
    for field, field_type in PAYLOAD_INDEXES.items():
        shard.update(edge.UpdateOperation.create_field_index(field, field_type))
    done = 0
    for batch in schema.release_batches(release_folder, manifest, BATCH):
        points = [point_of(indexed, manifest) for indexed in batch]
        shard.update(edge.UpdateOperation.upsert_points(points))
        done += len(batch)
        if on_progress:
            on_progress(done, manifest.n_products)
    shard.optimize()
    shard.flush()
    shard.close()


def optimize(path: Path) -> None:
    """Takes what was written since the last time into the search graph."""
    shard = edge.EdgeShard.load(str(path))
    shard.optimize()
    shard.flush()
    shard.close()


def worth_optimizing(piled_up: int, embedding_size: int) -> bool:
    """Returns whether so many products were written that searching them one by one is slower."""
    return piled_up * embedding_size * 4 > INDEXING_THRESHOLD_KB * 1024


def point_of(indexed: IndexedProduct, manifest: Manifest) -> edge.Point:
    """Returns the point of a product. Raises ReleaseMismatch when its embedding does not fit."""
    vector = schema.vector_of(indexed.embedding, manifest)
    return edge.Point(schema.point_id(indexed.product.product_id), vector, schema.payload(indexed))
