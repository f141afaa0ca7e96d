"""A small fitted behavior tokenizer whose every id can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np

from shopintent.behavior import BehaviorTokenizer, Product, Vocabulary
from shopintent.behavior.codebook import ContentCodebook
from shopintent.behavior.tokenizer import empty_product_table
from shopintent.behavior.vocabulary import FIRST

PRODUCTS = (
    Product("chair", "Chair", brand="Acme", categories=("Garden > Chairs",), price=Decimal("10")),
    Product("table", "Table", categories=("Garden > Tables",), price=Decimal("99.99")),
    Product("стол", "Стол", brand="Лес", categories=("Kitchen",)),
)
TEXT_EMBEDDINGS = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=np.float32)
"""[3, E] of PRODUCTS; the last one has no text embedding."""


def small_tokenizer(*, max_events: int = 4) -> BehaviorTokenizer:
    """Returns a tokenizer that knows PRODUCTS, and "view-product" but not "remove-from-cart"."""
    tokenizer = BehaviorTokenizer(
        event_types=Vocabulary(
            ("view-product", "view-category", "search", "favorite", "add-to-cart", "purchase")
        ),
        products=Vocabulary(tuple(product.product_id for product in PRODUCTS)),
        categories=Vocabulary(("Garden", "Garden > Chairs", "Kitchen")),
        brands=Vocabulary(("Acme", "Лес")),
        codebook=ContentCodebook(
            np.array(
                [
                    [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]],
                    [[0.0, 0.0], [0.25, 0.25], [-0.25, 0.25]],
                    [[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]],
                ],
                dtype=np.float32,
            )
        ),
        price_edges=np.array([10.0, 50.0, 100.0]),
        product_table=empty_product_table(Vocabulary(tuple(p.product_id for p in PRODUCTS))),
        max_events=max_events,
    )
    table = tokenizer.product_table.copy()
    table[FIRST:] = tokenizer.encode_content(PRODUCTS, TEXT_EMBEDDINGS)
    return replace(tokenizer, product_table=table)
