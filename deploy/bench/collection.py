"""A product collection of any size for a release: its own products, and many more like them.

Every size gets a releases root of its own, with the same release in it. So one Triton answers for
all of them, and each server has an index of its own.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import (
    IndexedProduct,
    Manifest,
    ReleasesRoot,
    read_products,
    write_products,
)
from shopintent.artifacts.integrity import seal
from shopintent.behavior import Product

MAX_PARENTS = 5_000
"""Products that others are made like: each is compared with each of them."""
NEIGHBORS = 40
NOISE = 0.35
"""Length of what is added at random to an embedding of length 1."""
PRICE_FACTORS = (0.5, 2.0)
IN_STOCK_SHARE = 0.95
SEED = 11
COMPLETE = "complete"


@dataclass(frozen=True, eq=False)
class Collection:
    """The products of one size, most popular first."""

    products: list[Product]
    embeddings: NDArray[np.float32]
    """[P, D], L2-normalized."""
    content: NDArray[np.int32]
    """[P, 6]."""


def sized_release(source: ReleasesRoot, n_products: int, folder: Path) -> ReleasesRoot:
    """Returns a releases root in the folder: the current release of `source`, of another size.

    It is kept, with the index that a server builds beside it, for the next run.
    """
    release_id = source.current()
    assert release_id is not None, f"{source.path} names no current release"
    root = ReleasesRoot(folder / f"{release_id}-{n_products}")
    if (root.path / COMPLETE).exists():
        return root
    shutil.rmtree(root.path, ignore_errors=True)
    copied = root.release(release_id)
    shutil.copytree(source.release(release_id).path, copied.path)
    root.model_repository.symlink_to(source.model_repository.absolute())
    collection = grown(list(read_products(source.release(release_id))), n_products)
    write_products(copied, collection.products, collection.embeddings, collection.content)
    manifest = Manifest.load(copied.manifest)
    popularity = manifest.popularity[:n_products]
    seal(root, replace(manifest, n_products=n_products, popularity=popularity))
    root.set_current(release_id)
    (root.path / COMPLETE).touch()
    return root


def grown(originals: list[IndexedProduct], n_products: int) -> Collection:
    """Returns the most popular of the originals, followed by variations of them."""
    kept = originals[:n_products]
    random = np.random.default_rng(SEED)
    n_parents = min(len(originals), MAX_PARENTS)
    parents = random.integers(n_parents, size=n_products - len(kept))
    embeddings = np.stack([each.embedding for each in originals])
    content = np.stack([each.content for each in originals])
    factors = random.uniform(*PRICE_FACTORS, size=len(parents))
    stocked = random.random(len(parents)) < IN_STOCK_SHARE
    variations = [
        vary(originals[parent].product, number, factor, in_stock)
        for number, (parent, factor, in_stock) in enumerate(
            zip(parents.tolist(), factors.tolist(), stocked.tolist(), strict=True)
        )
    ]
    return Collection(
        products=[*(each.product for each in kept), *variations],
        embeddings=np.concatenate(
            [embeddings[: len(kept)], between(embeddings[:n_parents], parents, random)]
        ),
        content=np.concatenate([content[: len(kept)], content[parents]]),
    )


def vary(product: Product, number: int, price_factor: float, in_stock: bool) -> Product:
    """Returns a product like this one, under an id, a title and a price of its own."""
    price = product.price
    if price is not None:
        price = (price * Decimal(price_factor)).quantize(Decimal("0.01"))
    return replace(
        product,
        product_id=f"variation-{number}",
        title=f"{product.title} no. {number}",
        price=price,
        in_stock=in_stock,
    )


def between(
    embeddings: NDArray[np.float32], parents: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.float32]:
    """Returns an L2-normalized embedding for each parent [N]: on its way to another near it, or so.

    So a large collection fills the space between the originals, as a larger shop does, and is not
    a heap of copies of each.
    """
    alike = embeddings @ embeddings.T
    near = np.argsort(-alike, axis=1)[:, 1 : 1 + NEIGHBORS]
    others = near[parents, random.integers(near.shape[1], size=len(parents))]
    share = random.random((len(parents), 1), dtype=np.float32)
    found = unit(share * embeddings[parents] + (1 - share) * embeddings[others])
    noise = random.standard_normal(found.shape, dtype=np.float32)
    return unit(found + noise * (NOISE / np.sqrt(found.shape[1], dtype=np.float32)))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the vectors with length 1."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
