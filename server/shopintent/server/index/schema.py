"""What a point of a product collection is made of; the same in the embedded engine and in Qdrant.

id       uuid5 of the product id
vector   [D] the product embedding, L2-normalized, compared by dot product
payload  the fields below
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder, read_products
from shopintent.artifacts.layout import collection
from shopintent.artifacts.products import product_from_json, product_to_json
from shopintent.behavior import Product, price_in_units
from shopintent.behavior.products import category_and_ancestors
from shopintent.server.errors import ReleaseMismatch

VERSION = 1
"""Bump it when a point changes; collections of another version are built again."""

PRODUCT = "product"
"""The whole product as JSON text: one string is read faster than an object of many fields."""
CONTENT = "content"
"""The content tokens, [6] integers."""
CATEGORY_PATHS = "category_paths"
"""Keywords: every category path of the product and every path above it."""
PRICE = "price"
"""A float; absent when unknown, so that no price bound matches."""
AVAILABILITY = "availability"
"""A keyword, not a boolean: qdrant-edge 0.9.0 never matches booleans."""
IN_STOCK = "in-stock"
OUT_OF_STOCK = "out-of-stock"

_NAMESPACE = uuid.UUID("6f1f0c1e-7b0e-5a3c-9a52-3d1f5e0c8a41")


@lru_cache(maxsize=50_000)
def point_id(product_id: str) -> uuid.UUID:
    """Returns the id of the product's point: always the same for the same product."""
    return uuid.uuid5(_NAMESPACE, product_id)


def payload(indexed: IndexedProduct) -> dict[str, Any]:
    """Returns the payload of a product's point, as JSON values."""
    product = indexed.product
    paths = (path for name in product.categories for path in category_and_ancestors(name))
    values: dict[str, Any] = {
        PRODUCT: json.dumps(product_to_json(product), ensure_ascii=False),
        CONTENT: indexed.content.tolist(),
        CATEGORY_PATHS: list(dict.fromkeys(paths)),
        AVAILABILITY: IN_STOCK if product.in_stock else OUT_OF_STOCK,
    }
    price = price_in_units(product)
    return values if price is None else {**values, PRICE: price}


def product_of(values: dict[str, Any]) -> Product:
    """Returns the product that `payload` wrote."""
    return product_from_json(json.loads(values[PRODUCT]))


def indexed_product_of(values: dict[str, Any], vector: object) -> IndexedProduct:
    """Returns the product of a point with its embedding and content."""
    embedding: NDArray[np.float32] = np.asarray(vector, dtype=np.float32)
    return IndexedProduct(product_of(values), embedding, np.asarray(values[CONTENT], np.int32))


def description(manifest: Manifest) -> dict[str, Any]:
    """Returns what a collection is built from; it is built again when any of it changes."""
    return {
        "schema_version": VERSION,
        "release_id": manifest.release_id,
        "created_at": manifest.created_at,
        "behavior_fingerprint": manifest.behavior_fingerprint,
    }


def vector_of(embedding: NDArray[np.float32], manifest: Manifest) -> list[float]:
    """Returns the embedding as the engines take it. Raises ReleaseMismatch for a wrong size."""
    if embedding.shape != (manifest.embedding_size,):
        why = f"an embedding has the shape {embedding.shape}, not ({manifest.embedding_size},)"
        raise ReleaseMismatch(manifest.release_id, collection(manifest.release_id), why)
    vector: list[float] = embedding.tolist()
    return vector


def in_batches(products: Iterable[IndexedProduct], size: int) -> Iterator[list[IndexedProduct]]:
    """Yields the products in lists of `size`, the last one shorter."""
    iterator = iter(products)
    while batch := list(islice(iterator, size)):
        yield batch


def release_batches(
    folder: ReleaseFolder, manifest: Manifest, size: int
) -> Iterator[list[IndexedProduct]]:
    """Yields the release's whole collection in lists of `size`.

    Raises ReleaseError when it cannot be read and, at the end, ReleaseMismatch when there are not
    as many products as the manifest says.
    """
    n_products = 0
    for batch in in_batches(read_products(folder), size):
        n_products += len(batch)
        yield batch
    if n_products != manifest.n_products:
        why = (
            f"{folder.products} holds {n_products} products, the manifest says "
            f"{manifest.n_products}: publish the release again"
        )
        raise ReleaseMismatch(manifest.release_id, collection(manifest.release_id), why)
