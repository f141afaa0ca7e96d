"""Ranking is a weighted sum that keeps ties in order."""

from __future__ import annotations

import pytest

from shopintent.behavior import Product
from shopintent.server.index import Candidate
from shopintent.server.ranking import RankWeights, rank

CANDIDATES = [
    Candidate(Product("near"), 0.9),
    Candidate(Product("mid"), 0.5),
    Candidate(Product("far"), -0.2),
]
POPULARITY = {"near": 0.1, "mid": 0.6, "far": 1.0}


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        (RankWeights(), ["near", "mid", "far"]),
        (RankWeights(similarity=0, popularity=1), ["far", "mid", "near"]),
        (RankWeights(similarity=1, popularity=1), ["mid", "near", "far"]),
        (RankWeights(similarity=0, popularity=0), ["near", "mid", "far"]),
    ],
)
def test_the_weights_decide_the_order(weights: RankWeights, order: list[str]) -> None:
    ranked = rank(CANDIDATES, weights, popularity=POPULARITY.__getitem__)
    assert [each.product.product_id for each in ranked] == order


def test_the_score_is_the_weighted_sum() -> None:
    weights = RankWeights(similarity=2, popularity=3)
    best = rank(CANDIDATES[1:2], weights, popularity=POPULARITY.__getitem__)[0]
    assert best.score == pytest.approx(2 * 0.5 + 3 * 0.6)
