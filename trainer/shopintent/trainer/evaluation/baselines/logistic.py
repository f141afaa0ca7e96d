"""What a shop's own team would build first: logistic regression on hand features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from shopintent.trainer.prefixes import Prefixes
from shopintent.trainer.sequences import Sequences

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the penalty, sklearn's C."""
FOLDS = 5


def fit_logistic(
    features: NDArray[np.float32],  # [N, X]
    labels: NDArray[np.bool_],  # [N]
    shoppers: NDArray[np.int64],  # [N]
) -> Pipeline | None:
    """Returns a fitted baseline on normal scores, its penalty chosen by shoppers not seen.

    None where there are no two classes to tell apart, or too few shoppers.
    """
    if len(np.unique(shoppers)) < FOLDS or labels.all() or not labels.any():
        return None

    def loss(penalty: float) -> float:
        unseen = cross_val_predict(
            regression(penalty, len(labels)),
            features,
            labels,
            groups=shoppers,
            cv=GroupKFold(FOLDS),
            method="predict_proba",
        )
        return float(log_loss(labels, unseen[:, 1]))

    return regression(min(PENALTIES, key=loss), len(labels)).fit(features, labels)


def regression(penalty: float, n_rows: int) -> Pipeline:
    """Returns an unfitted regression for about so many rows."""
    return make_pipeline(
        QuantileTransformer(
            n_quantiles=min(100, n_rows // 2), output_distribution="normal", random_state=0
        ),
        StandardScaler(),
        LogisticRegression(C=penalty, solver="newton-cholesky"),
    )


RECENT_S = (3_600, 86_400)


def count_features(sequences: Sequences, samples: Prefixes, n_actions: int) -> NDArray[np.float64]:
    """Returns [N, X] log counts of every action: ever, in this visit, in the last hour and day.

    The share of purchases among all events and the time since the last event of each kind
    complete them.
    """
    features = np.zeros((len(samples), n_actions * 5 + 3))
    for n, (shopper, end) in enumerate(zip(samples.shoppers, samples.ends, strict=True)):
        first, behind = sequences.offsets[shopper], end
        actions, times = sequences.actions[first:behind], sequences.event_times[first:behind]
        now = times[-1]
        in_visit = sequences.session_ids[first:behind] == sequences.session_ids[end - 1]
        masks = [np.ones(len(actions), bool), in_visit, *(times > now - each for each in RECENT_S)]
        counts = [np.bincount(actions[mask], minlength=n_actions) for mask in masks]
        last = np.full(n_actions, now - 10**8)
        np.maximum.at(last, actions, times)
        visits = len(np.unique(sequences.session_ids[first:behind]))
        shares = counts[0] / counts[0].sum()
        features[n] = np.concatenate(
            [*np.log1p(counts), np.log1p(now - last), [shares[-1], np.log1p(visits), now % 86_400]]
        )
    return features


def fit_logistic_regression(
    features: NDArray[np.float64], labels: NDArray[np.bool_]
) -> LogisticRegression | None:
    """Returns a fitted baseline, or None when there are no two classes to tell apart."""
    if labels.all() or not labels.any():
        return None
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
