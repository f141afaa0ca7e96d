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

from shopintent.trainer.model import IntentNetwork

MIN_POSITIVES = 20
"""With fewer purchases to go by, what gradient descent found is the better guess."""
MAX_REQUESTS = 60_000
PENALTIES = (1e-3, 1e-2, 1e-1)
"""Inverse strengths of the penalty, sklearn's C."""


@dataclass(frozen=True, eq=False)
class PurchaseRequests:
    """What the head sees at N requests, and what came of them."""

    inputs: NDArray[np.float32]  # [N, D + X], state and structured features
    bought: NDArray[np.bool_]  # [N, H]
    known: NDArray[np.bool_]  # [N, H]

    def of_horizon(self, horizon: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
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
    """Sets weights, biases, slopes and intercepts of every horizon that has purchases enough."""
    learned = learned.sample(MAX_REQUESTS, np.random.default_rng(seed))
    for horizon in range(learned.bought.shape[1]):
        inputs, bought = learned.of_horizon(horizon)
        if min(bought.sum(), (~bought).sum()) >= MIN_POSITIVES:
            width = network.config.d_model
            weights, bias = fit_logistic(inputs, bought, *validation.of_horizon(horizon), width)
            with torch.no_grad():
                network.buy_state.weight[horizon] = torch.tensor(weights[:width])
                network.buy_features.weight[horizon] = torch.tensor(weights[width:])
                network.buy_state.bias[horizon] = bias
    for horizon in range(learned.bought.shape[1]):
        inputs, bought = validation.of_horizon(horizon)
        slope, intercept = fit_platt(purchase_logits(network, inputs)[:, horizon], bought)
        network.purchase_slope[horizon] = slope
        network.purchase_intercept[horizon] = intercept


def fit_logistic(
    inputs: NDArray[np.float32],
    bought: NDArray[np.bool_],
    validation_inputs: NDArray[np.float32],
    validation_bought: NDArray[np.bool_],
    width: int,
) -> tuple[NDArray[np.float32], float]:
    """Returns the weights and bias that do best on the validation requests.

    The first `width` inputs are the state. A network that learned its shoppers by heart has
    states that mislead on others; then the structured features alone do better, and are taken
    alone.
    """
    best_loss, weights, bias = float("inf"), np.zeros(inputs.shape[1], np.float32), 0.0
    for penalty in PENALTIES:
        for first in (0, width):
            fitted = LogisticRegression(C=penalty, max_iter=500).fit(inputs[:, first:], bought)
            loss = validation_loss(fitted, validation_inputs[:, first:], validation_bought)
            if loss < best_loss:
                best_loss, bias = loss, float(fitted.intercept_[0])
                weights = np.pad(fitted.coef_[0], (first, 0)).astype(np.float32)
    return weights, bias


def validation_loss(
    fitted: LogisticRegression, inputs: NDArray[np.float32], bought: NDArray[np.bool_]
) -> float:
    """Returns the log loss on the validation requests; without any, every fit is as good."""
    if not len(inputs):
        return 0.0
    return float(log_loss(bought, fitted.predict_proba(inputs)[:, 1], labels=[False, True]))


@torch.no_grad()
def purchase_logits(network: IntentNetwork, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns [N, H] logits before calibration of [N, D + X] inputs."""
    width = network.config.d_model
    given = torch.as_tensor(inputs, device=network.buy_state.weight.device)
    logits = network.buy_state(given[:, :width]) + network.buy_features(given[:, width:])
    answer: NDArray[np.float64] = logits.cpu().double().numpy()
    return answer


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
