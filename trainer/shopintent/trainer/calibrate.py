"""Platt scaling of the purchase probabilities on shoppers that the network was not fitted to."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from shopintent.trainer.model import IntentNetwork

MIN_POSITIVES = 20
"""With fewer purchases to go by, the network's own probability is the better guess."""


def fit_platt(logits: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns slope and intercept that make sigmoid(slope * logit + intercept) a probability.

    Platt 1999, without his smoothing of the labels; (1, 0) when there is too little to fit.
    """
    if min(labels.sum(), (~labels).sum()) < MIN_POSITIVES:
        return 1.0, 0.0
    fitted = LogisticRegression(C=1e6).fit(logits[:, None], labels)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    # A slope that turns the order around is noise: keep the order and move only the level.
    return (slope, intercept) if slope > 0.1 else (1.0, 0.0)


def calibrate(
    network: IntentNetwork,
    logits: NDArray[np.float64],
    labels: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> None:
    """Sets the network's slopes and intercepts from [N, H] uncalibrated logits and known labels."""
    for horizon in range(logits.shape[1]):
        rows = known[:, horizon]
        slope, intercept = fit_platt(logits[rows, horizon], labels[rows, horizon])
        network.purchase_slope[horizon] = torch.tensor(slope)
        network.purchase_intercept[horizon] = torch.tensor(intercept)
