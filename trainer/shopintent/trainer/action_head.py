"""Fits the next-action head to the frozen network: a multinomial logistic regression.

Gradient descent stops when next products are learned best, which may be long before or after next
actions are. So the head's last fit is its own, convex, on state and structured features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from shopintent.trainer.logistic import regression
from shopintent.trainer.model import IntentNetwork

PENALTIES = (1e-3, 1e-2)
"""Inverse strengths of the penalty, sklearn's C."""
NEWEST_SHARE = 0.2
"""The newest share of the requests, which the penalty is chosen on."""
NEVER = -12.0
"""Log odds of an action that never came."""


def fit_action_head(
    network: IntentNetwork,
    inputs: NDArray[np.float32],
    actions: NDArray[np.int64],
    request_times: NDArray[np.int64],
) -> None:
    """Sets the head's weights from [N, D + X] inputs and the action [N] that came, -1 if unknown.

    Where fewer than two different actions came, the head stays as gradient descent left it.
    """
    known = actions >= 0
    inputs, actions, request_times = inputs[known], actions[known], request_times[known]
    if len(np.unique(actions)) < 2:
        return
    older = request_times < np.quantile(request_times, 1 - NEWEST_SHARE)
    penalty = best_penalty(inputs, actions, older)
    scaler, fitted = regression(penalty).fit(inputs, actions).named_steps.values()
    # sklearn has one row of weights for two classes, which are those of the second.
    binary = len(fitted.classes_) == 2
    rows = np.vstack([-fitted.coef_ / 2, fitted.coef_ / 2]) if binary else fitted.coef_
    offsets = np.array([-0.5, 0.5]) * fitted.intercept_ if binary else fitted.intercept_
    weights = rows / scaler.scale_
    width = network.config.d_model
    with torch.no_grad():
        network.act.weight.zero_()
        network.act_features.weight.zero_()
        network.act.bias.fill_(NEVER)
        network.act.weight[fitted.classes_] = torch.tensor(weights[:, :width]).float()
        network.act_features.weight[fitted.classes_] = torch.tensor(weights[:, width:]).float()
        network.act.bias[fitted.classes_] = torch.tensor(offsets - weights @ scaler.mean_).float()


def best_penalty(
    inputs: NDArray[np.float32], actions: NDArray[np.int64], older: NDArray[np.bool_]
) -> float:
    """Returns the penalty whose fit to the older requests does best on the newer ones."""
    classes = np.unique(actions[older])
    judged = ~older & np.isin(actions, classes)
    if len(classes) < 2 or not judged.any():
        return PENALTIES[0]

    def loss(penalty: float) -> float:
        fitted = regression(penalty).fit(inputs[older], actions[older])
        return float(
            log_loss(actions[judged], fitted.predict_proba(inputs[judged]), labels=classes)
        )

    return min(PENALTIES, key=loss)
