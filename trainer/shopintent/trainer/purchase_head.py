"""Fits the purchase head to the frozen network: a logistic regression, calibrated out of fold.

`p = sigmoid(W^T [H b + X A])` is linear in the state H and the structured features X. Its fit is
convex: gradient descent through the network learns the shoppers of a small log by heart instead.
The strength of its penalty and its calibration come from shoppers each fit has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from shopintent.trainer.logistic import regression
from shopintent.trainer.prefixes import Prefixes

MIN_POSITIVES = 20
"""With fewer purchases to go by, only their rate can be told."""
PENALTIES = (1e-3, 1e-2, 1e-1)
"""Inverse strengths of the penalty, sklearn's C."""
FOLDS = 3
NEWEST_SHARE = 0.5
"""The newest share of the requests, which the probabilities are calibrated on."""


class PurchaseHead(nn.Module):
    """State and structured features [B, I] to purchase probabilities [B, C].

    The first column is a purchase later in this visit, the others are the horizons.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_inputs: int, n_columns: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_columns, n_inputs))
        self.register_buffer("bias", torch.zeros(n_columns))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, I] to [B, C]."""
        return torch.sigmoid(inputs @ self.weight.T + self.bias)


@dataclass(frozen=True, eq=False)
class PurchaseRequests:
    """What the head sees at N requests, and what came of them."""

    inputs: NDArray[np.float32]  # [N, D + X], state and structured features
    bought: NDArray[np.bool_]  # [N, H]
    known: NDArray[np.bool_]  # [N, H]
    shoppers: NDArray[np.int64]  # [N]
    request_times: NDArray[np.int64]  # [N]

    @classmethod
    def of(cls, prefixes: Prefixes, inputs: NDArray[np.float32]) -> PurchaseRequests:
        """Returns the requests after prefixes, for which the head sees [N, D + X] inputs."""
        return cls(
            inputs,
            prefixes.purchase_labels,
            prefixes.purchase_known,
            prefixes.shoppers,
            prefixes.request_times,
        )

    def of_horizon(self, horizon: int) -> HorizonRequests:
        """Returns the requests whose label of one horizon is known."""
        known = self.known[:, horizon]
        return HorizonRequests(
            self.inputs[known],
            self.bought[known, horizon],
            self.shoppers[known],
            self.request_times[known],
        )


@dataclass(frozen=True, eq=False)
class HorizonRequests:
    """The same for one horizon, every label known."""

    inputs: NDArray[np.float32]  # [N, D + X]
    bought: NDArray[np.bool_]  # [N]
    shoppers: NDArray[np.int64]  # [N]
    request_times: NDArray[np.int64]  # [N]


def fit_purchase_head(head: PurchaseHead, requests: PurchaseRequests) -> None:
    """Sets the head's weights and biases; with too few purchases it predicts their rate."""
    for column in range(requests.bought.shape[1]):
        weights, bias = fit_horizon(requests.of_horizon(column))
        head.weight[column] = torch.as_tensor(weights)
        head.bias[column] = bias


def fit_horizon(requests: HorizonRequests) -> tuple[NDArray[np.float64], float]:
    """Returns the calibrated weights and bias of one horizon."""
    inputs, bought = requests.inputs, requests.bought
    if not enough_to_fit(requests):
        rate = (bought.sum() + 0.5) / (len(bought) + 1.0)
        return np.zeros(inputs.shape[1]), float(np.log(rate / (1 - rate)))
    # Log odds of every request by a fit that has not seen its shopper, for each penalty.
    unseen = {penalty: out_of_fold(regression(penalty), requests) for penalty in PENALTIES}
    best = min(PENALTIES, key=lambda penalty: log_loss(bought, 1 / (1 + np.exp(-unseen[penalty]))))
    newest = requests.request_times >= np.quantile(requests.request_times, 1 - NEWEST_SHARE)
    slope, intercept = fit_platt(unseen[best][newest], bought[newest])
    scaler, fitted = regression(best).fit(inputs, bought).named_steps.values()
    # The scaler and the calibration are linear too: both become part of weights and bias.
    weights = fitted.coef_[0] / scaler.scale_
    bias = float(fitted.intercept_[0] - weights @ scaler.mean_)
    return weights * slope, bias * slope + intercept


def enough_to_fit(requests: HorizonRequests) -> bool:
    """Returns whether enough shoppers buy, and do not, to fit to some and calibrate on others."""
    bought = requests.bought
    n_shoppers = len(np.unique(requests.shoppers))
    if n_shoppers < FOLDS or min(bought.sum(), (~bought).sum()) < MIN_POSITIVES:
        return False
    folds = GroupKFold(FOLDS).split(requests.inputs, groups=requests.shoppers)
    return all(0 < bought[learned].mean() < 1 for learned, _ in folds)


def out_of_fold(model: Pipeline, requests: HorizonRequests) -> NDArray[np.float64]:
    """Returns [N] log odds, each by a fit to other shoppers."""
    log_odds: NDArray[np.float64] = cross_val_predict(
        model,
        requests.inputs,
        requests.bought,
        groups=requests.shoppers,
        cv=GroupKFold(FOLDS),
        method="decision_function",
    )
    return log_odds


def fit_platt(log_odds: NDArray[np.float64], bought: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns slope and intercept that make sigmoid(slope * log odds + intercept) a probability.

    Platt 1999, without his smoothing of the labels; (1, 0) when there is too little to fit.
    """
    if min(bought.sum(), (~bought).sum()) < MIN_POSITIVES:
        return 1.0, 0.0
    fitted = LogisticRegression(C=1e6).fit(log_odds[:, None], bought)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    # A slope that turns the order around is noise: keep the order.
    return (slope, intercept) if slope > 0.1 else (1.0, 0.0)
