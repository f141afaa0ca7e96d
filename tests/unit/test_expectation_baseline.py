"""LightGBM for a positive number: no strawman."""

from __future__ import annotations

import numpy as np

from shopintent.trainer.evaluation.baselines.expectation import fit_lightgbm_expectation


def test_it_finds_the_law_in_spite_of_a_few_huge_targets() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(0.0, 1.0, (3_000, 4)).astype(np.float32)
    true = np.where(features[:, 2] > 0.3, 200.0, 30.0)
    targets = np.maximum(rng.gamma(1.5, true / 1.5).round(), 1).astype(np.int64)
    targets[:5] = 1_000_000
    trees = fit_lightgbm_expectation(features, targets, np.arange(3_000) // 3)
    expected = np.asarray(trees.predict(features))
    assert float(np.abs(np.log(expected / true)).mean()) < 0.2
