"""What the network must beat: counts in a logistic regression, and what is popular."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shopintent.trainer.prefixes import Prefixes
from shopintent.trainer.sequences import Sequences

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
