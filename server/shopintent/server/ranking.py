"""Orders candidates: a weighted sum whose weights belong to the placement, not to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shopintent.behavior import Product
from shopintent.server.index import Candidate

HOME = "home"
"""The placement whose weights count where a placement has none of its own."""


@dataclass(frozen=True)
class RankWeights:
    """What counts how much at one placement."""

    similarity: float = 1.0
    """Of the similarity to the visitor's behavior, in [-1, 1]."""
    popularity: float = 0.0
    """Of the popularity percentile, in [0, 1]."""


class Source(StrEnum):
    """Where a recommended product came from."""

    PERSONALIZED = "personalized"
    POPULAR = "popular"
    TRENDING = "trending"


class RankedProduct(NamedTuple):
    """A product with its score; higher is better."""

    product: Product
    score: float
    source: Source = Source.PERSONALIZED


def rank(
    candidates: Sequence[Candidate],
    weights: RankWeights,
    *,
    popularity: Callable[[str], float],
) -> list[RankedProduct]:
    """Returns the candidates best first; those with equal scores keep their order.

    The most similar candidates come first. `popularity` gives the percentile of a product id, in
    [0, 1].
    """
    if not weights.popularity and weights.similarity > 0:
        # The usual placement: the index has put them in order already.
        return [RankedProduct(product, weights.similarity * near) for product, near in candidates]
    ranked = [
        RankedProduct(
            each.product,
            weights.similarity * each.similarity
            + weights.popularity * popularity(each.product.product_id),
        )
        for each in candidates
    ]
    return sorted(ranked, key=lambda each: each.score, reverse=True)
