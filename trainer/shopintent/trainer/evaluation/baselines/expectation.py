"""LightGBM for a positive number, on the features of ours: what a shop's own team would try."""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit

from shopintent.trainer.evaluation.baselines.lightgbm import MAX_TREES, PATIENCE, SETTINGS

NAME = "lightgbm"
HIGHEST = 0.99
"""Targets beyond this quantile count as that much: few of them would decide the mean of all."""


def fit_lightgbm_expectation(
    features: NDArray[np.float32],  # [N, X]
    targets: NDArray[np.int64],  # [N], above 0
    shoppers: NDArray[np.int64],  # [N]
) -> lightgbm.Booster:
    """Returns trees of a Poisson objective, as many as did best for a fifth of the shoppers."""
    cut = targets.clip(None, np.quantile(targets, HIGHEST))
    relative = cut / cut.mean()
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    learned, judged = next(splitter.split(features, groups=shoppers))
    settings = SETTINGS | {"objective": "poisson"}
    tables = [lightgbm.Dataset(features[rows], relative[rows]) for rows in (learned, judged)]
    stopped = lightgbm.train(
        settings,
        tables[0],
        num_boost_round=MAX_TREES,
        valid_sets=[tables[1]],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    everything = lightgbm.Dataset(features, cut)
    return lightgbm.train(settings, everything, num_boost_round=stopped.best_iteration)
