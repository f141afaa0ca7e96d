"""Heads that expect a positive number: how long until the next order, how many units.

The expectation is `exp(w^T [H, X])`, fitted as a Poisson regression (Gourieroux and others 1984,
https://doi.org/10.2307/1913472): convex, and true to the mean whatever the law of the targets. Rare
orders of a wholesaler outweigh all others in any mean, so what is far out counts as the TAIL
quantile. The strength of the penalty comes from shoppers each fit has not seen; where none beats
the mean, the head says the mean.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

MIN_TARGETS = 50
MIN_SHOPPERS = 20
"""With fewer orders, or of fewer shoppers, nothing is expected."""
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Strengths of the L2 penalty on standardized inputs, sklearn's alpha, for targets of mean 1."""
FOLDS = 3
TAIL = 0.01
"""Targets are cut at this quantile and at that from above, and expectations stay between both."""


class ExpectationHead(nn.Module):
    """Inputs [B, I] to the expectation of a positive number [B, 1]."""

    weight: Tensor
    bias: Tensor
    log_range: Tensor
    given: Tensor

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_inputs))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("log_range", torch.zeros(2))
        self.register_buffer("given", torch.tensor(False))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, I] to [B, 1]; 1 where nothing was fitted."""
        logs = inputs @ self.weight + self.bias
        bounded = torch.minimum(torch.maximum(logs, self.log_range[0]), self.log_range[1])
        return bounded.exp().unsqueeze(1)


def fit_expectation(
    head: ExpectationHead,
    inputs: NDArray[np.float32],  # [N, I]
    targets: NDArray[np.int64],  # [N], above 0
    shoppers: NDArray[np.int64],  # [N]
) -> None:
    """Sets the head's weights; with too few targets it stays as it is and `given` stays false."""
    if len(targets) < MIN_TARGETS or len(np.unique(shoppers)) < MIN_SHOPPERS:
        return
    low, high = np.quantile(targets, (TAIL, 1 - TAIL))
    cut = targets.clip(low, high)
    relative = cut / cut.mean()
    penalty = best_penalty(inputs, relative, shoppers)
    weights, bias = np.zeros(inputs.shape[1]), 0.0
    if penalty is not None:
        scaler, fitted = fit(penalty, inputs, relative).named_steps.values()
        # The scaler is linear too and becomes part of weights and bias.
        weights = fitted.coef_ / scaler.scale_
        bias = float(fitted.intercept_ - weights @ scaler.mean_)
    head.weight.copy_(torch.as_tensor(weights))
    head.bias.fill_(bias + float(np.log(cut.mean())))
    head.log_range.copy_(torch.tensor([np.log(low), np.log(high)]))
    head.given.fill_(True)


def best_penalty(
    inputs: NDArray[np.float32], targets: NDArray[np.float64], shoppers: NDArray[np.int64]
) -> float | None:
    """Returns the penalty whose fits do best on other shoppers; None where the mean does."""
    low, high = targets.min(), targets.max()

    def deviance(penalty: float) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            expected = cross_val_predict(
                model(penalty), inputs, targets, groups=shoppers, cv=GroupKFold(FOLDS)
            )
        return float(mean_poisson_deviance(targets, expected.clip(low, high)))

    constant = float(mean_poisson_deviance(targets, np.full(len(targets), targets.mean())))
    deviances = {penalty: deviance(penalty) for penalty in PENALTIES}
    best = min(deviances, key=deviances.__getitem__)
    return best if deviances[best] < constant else None


def fit(penalty: float, inputs: NDArray[np.float32], targets: NDArray[np.float64]) -> Pipeline:
    """Returns the model fitted; where its solver stops early it is still the better for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model(penalty).fit(inputs, targets)


def model(penalty: float) -> Pipeline:
    """Returns the unfitted model on standardized inputs."""
    return make_pipeline(StandardScaler(), PoissonRegressor(alpha=penalty, max_iter=300))
