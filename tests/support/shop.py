"""A small shop with every oddity of a catalog, and the files of a release that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder, write_products
from shopintent.artifacts.manifest import FLOAT32, CodeVersion, DataWindow
from shopintent.artifacts.signature import OPTIONAL_ANSWERS, intent_signature
from shopintent.behavior import EVENT_TYPES, Product
from shopintent.behavior.events import LEAVE

EMBEDDING_SIZE = 16
CATEGORIES = (
    ("Garden > Chairs", "Outdoor"),
    ("Garden > Chairs > Folding",),
    ("Garden > Tables",),
    ("Gardening",),
    ("Kitchen > Pans",),
    (),
)
PRICES = (Decimal("9.99"), Decimal("10"), Decimal("10.01"), None, Decimal("250.5"), Decimal(0))
UNICODE_IDS = ("стул-1", "椅子/2", "o'brien; --", " spaced id ", "🪑")


def products(n: int = 120) -> list[Product]:
    """Returns n products: of every category, with and without a price, one in seven sold out."""
    ids = [*UNICODE_IDS, *(f"p{number}" for number in range(len(UNICODE_IDS), n))]
    return [
        Product(
            product_id=product_id,
            title=f'Product {number}: naïve "quoted"',
            brand="Acme" if number % 2 else "",
            categories=CATEGORIES[number % len(CATEGORIES)],
            price=PRICES[number // 2 % len(PRICES)],
            currency="EUR",
            in_stock=number % 7 != 0,
        )
        for number, product_id in enumerate(ids[:n])
    ]


def unit_vectors(n: int, size: int = EMBEDDING_SIZE, *, seed: int = 0) -> NDArray[np.float32]:
    """Returns [n, size] random vectors of length 1."""
    vectors = np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def indexed(shop: Sequence[Product], size: int = EMBEDDING_SIZE) -> list[IndexedProduct]:
    """Returns the products with embeddings of their own and content 0, 1, 2 and so on."""
    vectors = unit_vectors(len(shop), size)
    rows = zip(shop, vectors, strict=True)
    return [
        IndexedProduct(product, vector, np.arange(row, row + 6, dtype=np.int32))
        for row, (product, vector) in enumerate(rows)
    ]


def manifest(n_products: int, size: int = EMBEDDING_SIZE, release_id: str = "r1") -> Manifest:
    """Returns the manifest of a release of that many products."""
    return Manifest(
        release_id=release_id,
        created_at="2026-01-01T00:00:00Z",
        behavior_fingerprint="f" * 64,
        actions=(*EVENT_TYPES, LEAVE),
        horizons_s=(3600, 86400),
        answers=OPTIONAL_ANSWERS,
        embedding_size=size,
        text_embedding_size=8,
        max_text_tokens=64,
        n_products=n_products,
        popularity=tuple(float(n_products - row) for row in range(n_products)),
        session_gap_s=1800,
        parent=None,
        data=DataWindow(1_750_000_000, 1_760_000_000, 1_760_000_001),
        seeds=(7,),
        code=CodeVersion("0.1.0", "0" * 40),
        precision=FLOAT32,
        signatures={
            "intent": intent_signature(
                n_actions=len(EVENT_TYPES) + 1, n_horizons=2, embedding_size=size
            )
        },
        calibration=(),
        metrics=(),
        forced=None,
        files=(),
    )


def write_release(folder: Path, shop: Sequence[IndexedProduct]) -> ReleaseFolder:
    """Writes the product collection of a release into the folder, which is made."""
    release = ReleaseFolder(folder)
    release.path.mkdir(parents=True, exist_ok=True)
    embeddings = np.stack([each.embedding for each in shop])
    content = np.stack([each.content for each in shop])
    write_products(release, [each.product for each in shop], embeddings, content)
    return release
