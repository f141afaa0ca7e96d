"""What a shop's own team would build first: logistic regression on hand features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

N_QUANTILES = 100


def fit_logistic(
    features: NDArray[np.float32],  # [N, X]
    labels: NDArray[np.bool_],  # [N]
    shoppers: NDArray[np.int64],  # [N]
) -> Pipeline | None:
    """Returns a fitted baseline on normal scores, with the library's own penalty.

    None where there are no two classes to tell apart, or a single shopper.
    """
    if len(np.unique(shoppers)) < 2 or labels.all() or not labels.any():
        return None
    scores = QuantileTransformer(
        n_quantiles=min(N_QUANTILES, len(labels)), output_distribution="normal", random_state=0
    )
    regression = LogisticRegression(solver="newton-cholesky")
    return make_pipeline(scores, StandardScaler(), regression).fit(features, labels)
