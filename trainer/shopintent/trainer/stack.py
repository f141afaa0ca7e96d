"""Several experts on one question, and how far each is believed.

The experts are logistic regressions on the state H, on the structured features X and on both, and
boosted trees on X. Their log odds for shoppers whom they have not seen tell how much each is worth:
the weights are never negative, so an expert that learned its shoppers by heart gets none, and one
that wins on a large log carries the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from shopintent.trainer.logistic import (
    Linear,
    fit_intercept,
    fit_platt,
    folded,
    regression,
    sigmoid,
)
from shopintent.trainer.trees import grow

MIN_POSITIVES = 20
"""With fewer purchases to go by, only their rate can be told."""
MIN_FRESH_POSITIVES = 50
"""With fewer, what experts are worth is told by all requests."""
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the penalty, sklearn's C."""
TREE_SHAPES = ((7, 0.03), (31, 0.002))
"""Leaves a tree at most, and the share of all rows that a leaf holds at least."""
TREE_COUNTS = (20, 40, 80, 160)
FOLDS = 3
NEW_SHARE, NEWEST_SHARE = 0.75, 0.3
"""The newest shares of the requests: that whose slope, and that whose rate of purchases the
probabilities are fitted to. In the oldest part of a log everybody looks new."""
NEGLIGIBLE = 0.02
"""Trees of less weight are not worth their time."""


@dataclass(frozen=True, eq=False)
class Requests:
    """What is known of N requests, and what came of them."""

    readable: NDArray[np.float32]  # [N, D + X], state and normal scores of structured features
    features: NDArray[np.float32]  # [N, X], structured features
    bought: NDArray[np.bool_]  # [N]
    shoppers: NDArray[np.int64]  # [N]
    request_times: NDArray[np.int64]  # [N]
    undecided: NDArray[np.bool_]  # [N], whether the visit goes on and holds no purchase yet
    fresh_from: int = 0
    """Unix seconds; the network that made the state was fitted to what happened before."""

    def folds(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Returns what to learn from and what to judge on, without a shopper in both."""
        return list(GroupKFold(FOLDS).split(self.bought, groups=self.shoppers))

    @property
    def judged(self) -> NDArray[np.bool_]:
        """[N], the requests that experts are compared and calibrated on.

        Those of visits that hold no purchase yet: what follows an order is easier to tell.
        """
        bought = self.bought[self.undecided]
        enough = min(bought.sum(), (~bought).sum()) >= MIN_POSITIVES
        return self.undecided if enough else np.ones_like(self.undecided)

    @property
    def fresh(self) -> NDArray[np.bool_]:
        """[N], the requests that tell what a state is worth: those the network was not fitted to.

        It says more of what it was fitted to than it will of what is to come.
        """
        rows: NDArray[np.bool_] = self.judged & (self.request_times >= self.fresh_from)
        bought = self.bought[rows]
        enough = min(bought.sum(), (~bought).sum()) >= MIN_FRESH_POSITIVES
        return rows if enough else self.judged

    def enough(self) -> bool:
        """Returns whether enough shoppers buy, and do not, to fit to some and judge on others."""
        bought = self.bought
        if len(np.unique(self.shoppers)) < FOLDS:
            return False
        if min(bought.sum(), (~bought).sum()) < MIN_POSITIVES:
            return False
        return all(0 < bought[learned].mean() < 1 for learned, _ in self.folds())


@dataclass(frozen=True, eq=False)
class Stack:
    """Log odds `slope * (W^T [H b + X A] + w trees(X)) + intercept`, all factors multiplied out."""

    linear: Linear
    booster: lightgbm.Booster | None
    n_trees: int
    tree_weight: float
    shares: Mapping[str, float]
    """How far each expert is believed."""


def fit_stack(requests: Requests) -> Stack:
    """Fits all experts and their weights; with too few purchases it says their rate."""
    if not requests.enough():
        return Stack(rate(requests), None, 0, 0.0, {})
    width = requests.readable.shape[1] - requests.features.shape[1]
    views = {
        "state": slice(0, width),
        "features": slice(width, None),
        "state and features": slice(None),
    }
    unseen: dict[str, NDArray[np.float64]] = {}
    penalties: dict[str, float] = {}
    for name, view in views.items():
        rows = requests.judged if name == "features" else requests.fresh
        penalties[name], unseen[name] = best_penalty(requests.readable[:, view], requests, rows)
    shape, n_trees, unseen["trees"] = best_trees(requests)
    shares = dict(zip(unseen, believe(np.stack(list(unseen.values()), 1), requests), strict=True))
    stacked = sum(share * unseen[name] for name, share in shares.items())
    slope, intercept = calibrate(np.asarray(stacked), requests)

    weights, bias = np.zeros(requests.readable.shape[1]), intercept
    for name, view in views.items():
        fitted = fit_linear(requests.readable[:, view], requests.bought, penalties[name])
        weights[view] += slope * shares[name] * fitted.weights
        bias += slope * shares[name] * fitted.bias
    booster = None
    if shares["trees"] > NEGLIGIBLE:
        booster = grow(
            requests.features,
            requests.bought,
            n_trees=n_trees,
            n_leaves=shape[0],
            leaf_share=shape[1],
        )
    return Stack(Linear(weights, bias), booster, n_trees, slope * shares["trees"], shares)


def fit_alone(inputs: NDArray[np.float32], requests: Requests) -> Linear:
    """Returns a calibrated logistic regression on [N, I] inputs of the requests."""
    if not requests.enough():
        return Linear(np.zeros(inputs.shape[1]), rate(requests).bias)
    penalty, unseen = best_penalty(inputs, requests, requests.fresh)
    slope, intercept = calibrate(unseen, requests)
    fitted = fit_linear(inputs, requests.bought, penalty)
    return Linear(slope * fitted.weights, slope * fitted.bias + intercept)


def rate(requests: Requests) -> Linear:
    """Returns what says how often purchases are, and nothing else."""
    share = (requests.bought.sum() + 0.5) / (len(requests.bought) + 1.0)
    return Linear(np.zeros(requests.readable.shape[1]), float(np.log(share / (1 - share))))


def fit_linear(inputs: NDArray[np.float32], bought: NDArray[np.bool_], penalty: float) -> Linear:
    """Returns a logistic regression on [N, I] inputs."""
    return folded(regression(penalty).fit(inputs, bought))


def best_penalty(
    inputs: NDArray[np.float32], requests: Requests, rows: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64]]:
    """Returns the penalty that does best on shoppers not seen, and its log odds [N] for them.

    It is chosen on some of the rows [N].
    """

    def unseen(penalty: float) -> NDArray[np.float64]:
        return out_of_fold(
            requests,
            lambda learned, judged: fit_linear(
                inputs[learned], requests.bought[learned], penalty
            ).log_odds(inputs[judged]),
        )

    found = {penalty: unseen(penalty) for penalty in PENALTIES}
    best = min(found, key=lambda penalty: loss(found[penalty], requests, rows))
    return best, found[best]


def best_trees(requests: Requests) -> tuple[tuple[int, float], int, NDArray[np.float64]]:
    """Returns shape and number of the trees that do best on shoppers not seen, and log odds."""

    def unseen(shape: tuple[int, float]) -> NDArray[np.float64]:
        def judge(learned: NDArray[np.int64], judged: NDArray[np.int64]) -> NDArray[np.float64]:
            booster = grow(
                requests.features[learned],
                requests.bought[learned],
                n_trees=max(TREE_COUNTS),
                n_leaves=shape[0],
                leaf_share=shape[1],
            )
            raw = [
                booster.predict(requests.features[judged], raw_score=True, num_iteration=count)
                for count in TREE_COUNTS
            ]
            return np.stack(raw, axis=1)

        return out_of_fold(requests, judge)

    found = {
        (shape, count): log_odds
        for shape in TREE_SHAPES
        for count, log_odds in zip(TREE_COUNTS, unseen(shape).T, strict=True)
    }
    best = min(found, key=lambda key: loss(found[key], requests, requests.judged))
    return *best, found[best]


def out_of_fold(
    requests: Requests,
    judge: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Returns what `judge` says of each request, having learned from other shoppers only."""
    parts = [(judged, judge(learned, judged)) for learned, judged in requests.folds()]
    rows = np.concatenate([judged for judged, _ in parts])
    said: NDArray[np.float64] = np.concatenate([log_odds for _, log_odds in parts])[
        np.argsort(rows)
    ]
    return said


def loss(log_odds: NDArray[np.float64], requests: Requests, rows: NDArray[np.bool_]) -> float:
    """Returns the log loss of [N] log odds on some of the rows [N]."""
    return float(log_loss(requests.bought[rows], sigmoid(log_odds[rows])))


def believe(unseen: NDArray[np.float64], requests: Requests) -> NDArray[np.float64]:
    """Returns weights [E], none negative, with which [N, E] log odds together say most."""
    said, bought = unseen[requests.fresh], requests.bought[requests.fresh]

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_odds = said @ parameters[1:] + parameters[0]
        off = sigmoid(log_odds) - bought
        gradient = np.append(off.mean(), said.T @ off / len(off))
        return float(np.mean(np.logaddexp(0.0, log_odds) - bought * log_odds)), gradient

    n_experts = said.shape[1]
    start = np.append(0.0, np.full(n_experts, 1.0 / n_experts))
    bounds = [(None, None), *[(0.0, None)] * n_experts]
    weights: NDArray[np.float64] = minimize(
        objective, start, jac=True, bounds=bounds, method="L-BFGS-B"
    ).x[1:]
    # Where no expert says anything, all are believed alike rather than none.
    return weights if weights.sum() > 0 else start[1:]


def calibrate(log_odds: NDArray[np.float64], requests: Requests) -> tuple[float, float]:
    """Returns slope and intercept that make [N] log odds of shoppers not seen probabilities.

    Both come from the newest requests, whose shoppers are known for as long as those to come; the
    intercept from fewer of them, since how often shoppers buy changes from day to day.
    """
    rows = newest(requests, NEW_SHARE)
    slope, _ = fit_platt(log_odds[rows], requests.bought[rows])
    rows = newest(requests, NEWEST_SHARE)
    return slope, fit_intercept(slope * log_odds[rows], requests.bought[rows])


def newest(requests: Requests, share: float) -> NDArray[np.bool_]:
    """Returns [N]: the newest share of what is judged, or all if that holds too few purchases."""
    judged, times = requests.judged, requests.request_times
    rows: NDArray[np.bool_] = judged & (times >= np.quantile(times[judged], 1 - share))
    bought = requests.bought[rows]
    return rows if min(bought.sum(), (~bought).sum()) >= MIN_POSITIVES else judged
