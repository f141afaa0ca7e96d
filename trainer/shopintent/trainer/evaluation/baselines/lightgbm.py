"""What wins most contests on tables: LightGBM on hand features, stopped before it overfits."""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit

MAX_TREES = 1_000
PATIENCE = 50
SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
"""What is commonly advised where a log is noisy; the defaults overfit it (DECISIONS.md)."""


def fit_lightgbm(
    features: NDArray[np.float32],  # [N, X]
    labels: NDArray[np.bool_],  # [N]
    shoppers: NDArray[np.int64],  # [N]
) -> lightgbm.Booster | None:
    """Returns fitted trees, as many as did best for a fifth of the shoppers that was kept aside.

    None where there are no two classes to tell apart among either.
    """
    if len(np.unique(shoppers)) < 5:
        return None
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    learned, judged = next(splitter.split(features, groups=shoppers))
    if not all(0 < labels[rows].mean() < 1 for rows in (learned, judged)):
        return None
    tables = [lightgbm.Dataset(features[rows], labels[rows]) for rows in (learned, judged)]
    stopped = lightgbm.train(
        SETTINGS,
        tables[0],
        num_boost_round=MAX_TREES,
        valid_sets=[tables[1]],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    everything = lightgbm.Dataset(features, labels)
    return lightgbm.train(SETTINGS, everything, num_boost_round=stopped.best_iteration)
