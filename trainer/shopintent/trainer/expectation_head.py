"""Heads that expect a positive number: how long until the next order, how many units.

The expectation is `exp(w^T [H, X] + trees(X))`: a Poisson regression (Gourieroux and others 1984,
https://doi.org/10.2307/1913472), convex and true to the mean whatever the law of the targets, and
boosted trees that mend what is not linear. Rare orders of a wholesaler outweigh all others in any
mean, so what is far out counts as the TAIL quantile. How strong the penalty is and how many trees
grow is told by shoppers each fit has not seen; where nothing beats the mean, it says the mean.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import lightgbm
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from shopintent.trainer.trees import Trees, grow, load_trees

MIN_TARGETS = 50
MIN_SHOPPERS = 20
"""With fewer orders, or of fewer shoppers, nothing is expected."""
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths of the L2 penalty on standardized inputs, sklearn's alpha, for targets of mean 1."""
TREE_COUNTS = (0, 40, 80, 160)
TREE_LEAVES = 15
LEAF_SHARE = 0.005
"""The share of all rows that a leaf of a tree holds at least."""
FOLDS = 3
TAIL = 0.01
"""Targets are cut at this quantile and at that from above, and expectations stay between both."""

Floats = NDArray[np.float64]


class ExpectationHead(nn.Module):
    """State and features [B, D + X] to the expectation of a positive number [B, 1]."""

    weight: Tensor
    bias: Tensor
    log_range: Tensor
    given: Tensor

    def __init__(self, n_state: int, n_features: int) -> None:
        super().__init__()
        self.n_state = n_state
        self.register_buffer("weight", torch.zeros(n_state + n_features))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("log_range", torch.zeros(2))
        self.register_buffer("given", torch.tensor(False))
        self.trees = Trees()

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, D + X] to [B, 1]; 1 where nothing was fitted."""
        logs = inputs @ self.weight + self.bias + self.trees(inputs[:, self.n_state :])
        bounded = torch.minimum(torch.maximum(logs, self.log_range[0]), self.log_range[1])
        return bounded.exp().unsqueeze(1)


@dataclass(frozen=True, eq=False)
class Samples:
    """What is learned from: N requests whose targets have mean 1."""

    inputs: NDArray[np.float32]  # [N, D + X]
    features: NDArray[np.float32]  # [N, X]
    targets: Floats  # [N]

    def take(self, rows: NDArray[np.int64]) -> Samples:
        """Returns some of them."""
        return Samples(self.inputs[rows], self.features[rows], self.targets[rows])


@dataclass(frozen=True, eq=False)
class Linear:
    """Logarithms of expectations, linear in the inputs."""

    weights: Floats  # [D + X]
    bias: float

    def __call__(self, inputs: NDArray[np.float32]) -> Floats:
        """[N, D + X] to [N]."""
        logs: Floats = inputs @ self.weights + self.bias
        return logs


def fit_expectation(
    head: ExpectationHead,
    inputs: NDArray[np.float32],  # [N, D + X]
    targets: NDArray[np.int64],  # [N], above 0
    shoppers: NDArray[np.int64],  # [N]
) -> None:
    """Fits the head; with too few targets it stays as it is and `given` stays false."""
    if len(targets) < MIN_TARGETS or len(np.unique(shoppers)) < MIN_SHOPPERS:
        return
    low, high = np.quantile(targets, (TAIL, 1 - TAIL))
    cut = targets.clip(low, high)
    mean = float(cut.mean())
    samples = Samples(inputs, inputs[:, head.n_state :], cut / mean)
    folds = list(GroupKFold(FOLDS).split(inputs, groups=shoppers))
    penalty = best_penalty(samples, folds)
    linear = fit_linear(samples, penalty)
    n_trees = best_tree_count(samples, folds, penalty)
    if n_trees:
        load_trees(head.trees, grow_trees(samples, linear, n_trees), n_trees)
    head.weight.copy_(torch.as_tensor(linear.weights))
    head.bias.fill_(linear.bias + float(np.log(mean)))
    head.log_range.copy_(torch.tensor([np.log(low), np.log(high)]))
    head.given.fill_(True)


Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def best_penalty(samples: Samples, folds: Folds) -> float | None:
    """Returns the penalty whose fits do best on other shoppers; None where the mean does."""
    unseen: dict[float | None, Floats] = {None: np.zeros(len(samples.targets))}
    for penalty in PENALTIES:
        unseen[penalty] = np.zeros(len(samples.targets))
        for learned, judged in folds:
            fitted = fit_linear(samples.take(learned), penalty)
            unseen[penalty][judged] = fitted(samples.inputs[judged])
    return min(unseen, key=lambda penalty: deviance(samples, unseen[penalty]))


def best_tree_count(samples: Samples, folds: Folds, penalty: float | None) -> int:
    """Returns how many trees on top of the linear fit do best on other shoppers; 0 is none."""
    unseen = {count: np.zeros(len(samples.targets)) for count in TREE_COUNTS}
    for learned, judged in folds:
        own = samples.take(learned)
        linear = fit_linear(own, penalty)
        trees = grow_trees(own, linear, max(TREE_COUNTS))
        logs = linear(samples.inputs[judged])
        for count in TREE_COUNTS:
            mended = trees.predict(samples.features[judged], num_iteration=count, raw_score=True)
            unseen[count][judged] = logs + (mended if count else 0.0)
    return min(TREE_COUNTS, key=lambda count: deviance(samples, unseen[count]))


def deviance(samples: Samples, logs: Floats) -> float:
    """Returns how far expectations [N] of their logarithms are from the targets."""
    bounded = logs.clip(*np.log((samples.targets.min(), samples.targets.max())))
    return float(mean_poisson_deviance(samples.targets, np.exp(bounded)))


def fit_linear(samples: Samples, penalty: float | None) -> Linear:
    """Returns the regression with a penalty; without one it says the mean."""
    if penalty is None:
        return Linear(np.zeros(samples.inputs.shape[1]), float(np.log(samples.targets.mean())))
    scaler = StandardScaler().fit(samples.inputs)
    with warnings.catch_warnings():
        # Where the solver stops early the fit is still the better for it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = PoissonRegressor(alpha=penalty, max_iter=300).fit(
            scaler.transform(samples.inputs), samples.targets
        )
    # The scaler is linear too and becomes part of weights and bias.
    weights = fitted.coef_ / scaler.scale_
    return Linear(weights, float(fitted.intercept_ - weights @ scaler.mean_))


def grow_trees(samples: Samples, linear: Linear, n_trees: int) -> lightgbm.Booster:
    """Returns trees that mend what the linear fit says of its own samples."""
    return grow(
        samples.features,
        samples.targets,
        n_trees=n_trees,
        n_leaves=TREE_LEAVES,
        leaf_share=LEAF_SHARE,
        objective="poisson",
        offsets=linear(samples.inputs),
    )
