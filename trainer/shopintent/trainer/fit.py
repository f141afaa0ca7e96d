"""Fits the behavior tokenizer to the training part of a log."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from shopintent.behavior import BehaviorTokenizer, Product, Vocabulary, price_in_units
from shopintent.behavior.codebook import LEVELS, ContentCodebook
from shopintent.behavior.products import category_and_ancestors
from shopintent.behavior.tokenizer import empty_product_table

PRICE_BUCKETS = 16


def fit_tokenizer(
    products: Sequence[Product],
    text_embeddings: NDArray[np.float32],
    *,
    event_types: Sequence[str],
    code_size: int,
    max_events: int,
    seed: int,
) -> BehaviorTokenizer:
    """Returns a tokenizer that knows these products; `text_embeddings` [P, E] are theirs."""
    ids = Vocabulary(tuple(product.product_id for product in products))
    paths = {
        path
        for each in products
        for name in each.categories
        for path in category_and_ancestors(name)
    }
    tokenizer = BehaviorTokenizer(
        event_types=Vocabulary(tuple(event_types)),
        products=ids,
        categories=Vocabulary(tuple(sorted(paths))),
        brands=Vocabulary(tuple(sorted({each.brand for each in products if each.brand}))),
        codebook=fit_codebook(text_embeddings, code_size, seed),
        price_edges=fit_price_edges(products),
        product_table=empty_product_table(ids),
        max_events=max_events,
    )
    # The table is what the tokenizer itself says of the products.
    tokenizer.product_table[2:] = tokenizer.encode_content(products, text_embeddings)
    return tokenizer


def fit_price_edges(products: Sequence[Product]) -> NDArray[np.float64]:
    """Returns the prices between which equally many products lie; none when no price is known."""
    prices = [price for each in products if (price := price_in_units(each)) is not None]
    if not prices:
        return np.zeros(0)
    return np.unique(np.quantile(prices, np.linspace(0, 1, PRICE_BUCKETS + 1)[1:-1]))


def fit_codebook(embeddings: NDArray[np.float32], code_size: int, seed: int) -> ContentCodebook:
    """Returns a codebook of [N, E] embeddings; products without text, all zeros, do not count."""
    residual = np.unique(embeddings[embeddings.any(axis=1)], axis=0)
    size = max(1, min(code_size, len(residual)))
    if not len(residual):
        return ContentCodebook(np.zeros((LEVELS, 1, embeddings.shape[1]), np.float32))
    levels = []
    for level in range(LEVELS):
        means = MiniBatchKMeans(size, random_state=seed + level, n_init=3, batch_size=2048)
        with warnings.catch_warnings():
            # Fewer different residuals than centroids leave some unused, which does no harm.
            warnings.simplefilter("ignore", ConvergenceWarning)
            nearest = means.fit_predict(residual)
        levels.append(means.cluster_centers_.astype(np.float32))
        residual = residual - levels[-1][nearest]
    return ContentCodebook(np.stack(levels))
