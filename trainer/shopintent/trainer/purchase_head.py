"""Fits the purchase head to the frozen network: a logistic regression, calibrated on other
shoppers.

`p = sigmoid(W^T [H b + X A])` is linear in the state H and the structured features X. Training it
along with the network makes the states useful; its last fit is convex, so that it can not overfit
a small log the way gradient descent does, and the strength of its penalty is chosen on shoppers
it was not fitted to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shopintent.trainer.model import IntentNetwork

Labeled = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""What the head sees [N, D + X], and what came of it [N]."""

MIN_POSITIVES = 20
"""With fewer purchases to go by, nothing can be told of them."""
MAX_REQUESTS = 60_000
PENALTIES = (1e-3, 1e-2, 1e-1)
"""Inverse strengths of the penalty, sklearn's C."""


@dataclass(frozen=True, eq=False)
class PurchaseRequests:
    """What the head sees at N requests, and what came of them."""

    inputs: NDArray[np.float32]  # [N, D + X], state and structured features
    bought: NDArray[np.bool_]  # [N, H]
    known: NDArray[np.bool_]  # [N, H]

    def of_horizon(self, horizon: int) -> Labeled:
        """Returns inputs and labels where the label of one horizon is known."""
        known = self.known[:, horizon]
        return self.inputs[known], self.bought[known, horizon]

    def sample(self, limit: int, rng: np.random.Generator) -> PurchaseRequests:
        """Returns at most `limit` of the requests, drawn at random."""
        if len(self.inputs) <= limit:
            return self
        rows = rng.choice(len(self.inputs), limit, replace=False)
        return PurchaseRequests(self.inputs[rows], self.bought[rows], self.known[rows])


def fit_purchase_head(
    network: IntentNetwork, learned: PurchaseRequests, validation: PurchaseRequests, seed: int
) -> None:
    """Sets the head's weights and biases; with too few purchases it predicts their rate."""
    learned = learned.sample(MAX_REQUESTS, np.random.default_rng(seed))
    width = network.config.d_model
    for horizon in range(learned.bought.shape[1]):
        weights, bias = fit_horizon(learned.of_horizon(horizon), validation.of_horizon(horizon))
        with torch.no_grad():
            network.buy_state.weight[horizon] = torch.as_tensor(weights[:width])
            network.buy_features.weight[horizon] = torch.as_tensor(weights[width:])
            network.buy_state.bias[horizon] = bias


def fit_horizon(learned: Labeled, validation: Labeled) -> tuple[NDArray[np.float64], float]:
    """Returns weights and bias of one horizon, calibrated on the validation requests."""
    inputs, bought = learned
    if min(bought.sum(), (~bought).sum()) < MIN_POSITIVES:
        rate = (bought.sum() + 0.5) / (len(bought) + 1.0)
        return np.zeros(inputs.shape[1]), float(np.log(rate / (1 - rate)))
    fits = [
        make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500)).fit(*learned)
        for penalty in PENALTIES
    ]
    best = min(fits, key=lambda fitted: validation_loss(fitted, validation))
    scaler, regression = best[0], best[1]
    # The scaler and the calibration are linear too: both become part of weights and bias.
    weights = regression.coef_[0] / scaler.scale_
    bias = float(regression.intercept_[0] - weights @ scaler.mean_)
    slope, intercept = fit_platt(validation[0] @ weights + bias, validation[1])
    return weights * slope, bias * slope + intercept


def validation_loss(fitted: Pipeline, validation: Labeled) -> float:
    """Returns the log loss on the validation requests; without any, every fit is as good."""
    inputs, bought = validation
    if not len(inputs):
        return 0.0
    return float(log_loss(bought, fitted.predict_proba(inputs)[:, 1], labels=[False, True]))


def fit_platt(logits: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns slope and intercept that make sigmoid(slope * logit + intercept) a probability.

    Platt 1999, without his smoothing of the labels; (1, 0) when there is too little to fit.
    """
    if min(labels.sum(), (~labels).sum()) < MIN_POSITIVES:
        return 1.0, 0.0
    fitted = LogisticRegression(C=1e6).fit(logits[:, None], labels)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    # A slope that turns the order around is noise: keep the order.
    return (slope, intercept) if slope > 0.1 else (1.0, 0.0)
