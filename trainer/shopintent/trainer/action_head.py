"""The next-action head: a multinomial logistic regression, fitted to the frozen network.

Gradient descent stops when next products are learned best, which may be long before or after next
actions are. So the head's last fit is its own, convex, on state and structured features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from torch import Tensor, nn

from shopintent.trainer.logistic import regression

PENALTIES = (1e-3, 1e-2)
"""Inverse strengths of the penalty, sklearn's C."""
NEWEST_SHARE = 0.2
"""The newest share of the requests, which the penalty is chosen on."""
NEVER = -12.0
"""Log odds of an action that never came."""


class ActionHead(nn.Module):
    """State and structured features [B, I] to next-action probabilities [B, A]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, n_inputs: int, n_actions: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_actions, n_inputs))
        self.register_buffer("bias", torch.zeros(n_actions))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, I] to [B, A]."""
        return torch.softmax(inputs @ self.weight.T + self.bias, dim=-1)


def fit_action_head(
    head: ActionHead,
    inputs: NDArray[np.float32],
    actions: NDArray[np.int64],
    request_times: NDArray[np.int64],
) -> None:
    """Sets the head from [N, I] inputs and the action [N] that came, -1 if unknown.

    Where only one action ever came, it is all but certain; where none is known, all are alike.
    """
    known = actions >= 0
    inputs, actions, request_times = inputs[known], actions[known], request_times[known]
    came = np.unique(actions)
    head.weight.zero_()
    head.bias.fill_(NEVER if len(came) else 0.0)
    if len(came) < 2:
        head.bias[came] = 0.0
        return
    older = request_times < np.quantile(request_times, 1 - NEWEST_SHARE)
    penalty = best_penalty(inputs, actions, older)
    scaler, fitted = regression(penalty).fit(inputs, actions).named_steps.values()
    # sklearn has one row of weights for two classes, which are those of the second.
    binary = len(came) == 2
    rows = np.vstack([-fitted.coef_ / 2, fitted.coef_ / 2]) if binary else fitted.coef_
    offsets = np.array([-0.5, 0.5]) * fitted.intercept_ if binary else fitted.intercept_
    weights = rows / scaler.scale_
    head.weight[came] = torch.tensor(weights).float()
    head.bias[came] = torch.tensor(offsets - weights @ scaler.mean_).float()


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
