"""The product collection as files: what the trainer writes and an index loads."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts.layout import ReleaseFolder
from shopintent.artifacts.manifest import ReleaseError
from shopintent.behavior.products import Product


@dataclass(frozen=True, eq=False)
class IndexedProduct:
    """A product with what the model knows of it."""

    product: Product
    embedding: NDArray[np.float32]
    """[D], L2-normalized."""
    content: NDArray[np.int32]
    """[6], the content tokens of BehaviorTokenizer.encode_content."""


def product_to_json(product: Product) -> dict[str, Any]:
    """Returns the product as JSON values; unknown fields are left out and prices are strings."""
    values = {
        "product_id": product.product_id,
        "title": product.title,
        "description": product.description,
        "brand": product.brand,
        "categories": list(product.categories),
        "price": None if product.price is None else str(product.price),
        "currency": product.currency,
        "in_stock": product.in_stock,
    }
    return {name: value for name, value in values.items() if value not in ("", None, [])}


def product_from_json(values: dict[str, Any]) -> Product:
    """Returns the product that `product_to_json` wrote."""
    price = values.get("price")
    return Product(
        product_id=values["product_id"],
        title=values.get("title", ""),
        description=values.get("description", ""),
        brand=values.get("brand", ""),
        categories=tuple(values.get("categories", ())),
        price=None if price is None else Decimal(price),
        currency=values.get("currency", ""),
        in_stock=values["in_stock"],
    )


def write_products(
    folder: ReleaseFolder,
    products: Sequence[Product],
    embeddings: NDArray[np.float32],
    content: NDArray[np.int32],
) -> None:
    """Writes the collection: P products, [P, D] embeddings and [P, 6] content, in one order."""
    with folder.products.open("w", encoding="utf-8") as file:
        for product in products:
            file.write(json.dumps(product_to_json(product), ensure_ascii=False) + "\n")
    np.save(folder.product_embeddings, embeddings.astype(np.float32), allow_pickle=False)
    np.save(folder.product_content, content.astype(np.int32), allow_pickle=False)


def read_products(folder: ReleaseFolder) -> Iterator[IndexedProduct]:
    """Yields the collection in its order. Raises ReleaseError when its files do not fit."""
    try:
        embeddings = np.load(folder.product_embeddings, mmap_mode="r", allow_pickle=False)
        content = np.load(folder.product_content, mmap_mode="r", allow_pickle=False)
        with folder.products.open(encoding="utf-8") as file:
            n_products = 0
            for line in file:
                product = product_from_json(json.loads(line))
                embedding, tokens = np.array(embeddings[n_products]), np.array(content[n_products])
                yield IndexedProduct(product, embedding, tokens)
                n_products += 1
        if not n_products == len(embeddings) == len(content):
            raise ValueError(f"{folder.products.name} has fewer rows than the arrays beside it")
    except Exception as error:  # Damaged arrays, lines and prices raise errors of many kinds.
        raise _unreadable(folder, error) from error


def read_first_products(folder: ReleaseFolder, limit: int) -> list[IndexedProduct]:
    """Returns the first products of the collection: the most popular ones."""
    return list(islice(read_products(folder), limit))


def read_rows(folder: ReleaseFolder, rows: Collection[int]) -> list[Product]:
    """Returns the products in these rows of the collection, in its order; raises ReleaseError."""
    wanted = frozenset(rows)
    try:
        with folder.products.open(encoding="utf-8") as file:
            lines = [line for row, line in enumerate(file) if row in wanted]
        return [product_from_json(json.loads(line)) for line in lines]
    except Exception as error:  # As in `read_products`.
        raise _unreadable(folder, error) from error


def read_content(folder: ReleaseFolder) -> NDArray[np.int32]:
    """Returns [P, 6], the content of the whole collection, still on the disk; see `read_rows`."""
    try:
        content: NDArray[np.int32] = np.load(
            folder.product_content, mmap_mode="r", allow_pickle=False
        )
    except Exception as error:
        raise _unreadable(folder, error) from error
    return content


def _unreadable(folder: ReleaseFolder, error: Exception) -> ReleaseError:
    return ReleaseError(f"the products in {folder.path} cannot be read: {error}")
