"""Metrics of probabilities, of next actions and of ranks, as measures of weighted samples.

A measure takes weights [R, N], a row a resample, so that a number and its bootstrap are one code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from shopintent.trainer.evaluation.bootstrap import Measure

ECE_BINS = 15
EPSILON = 1e-7
PRECISIONS = (0.2, 0.5)
"""Fixed precisions at which recall is told."""
LIFT_PERCENTS = (1, 5)

Floats = NDArray[np.float64]


def of_means(values: Mapping[str, NDArray[np.floating]]) -> Measure:
    """Returns a measure of the means of values [N], each under its name."""
    table = np.stack(list(values.values()), axis=1).astype(np.float64)

    def measure(weights: Floats) -> dict[str, Floats]:
        means = weights @ table / weights.sum(1, keepdims=True)
        return dict(zip(values, means.T, strict=True))

    return measure


def of_actions(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> Measure:
    """Returns a measure of [N, A] probabilities and the action that came: log loss, accuracy."""
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], EPSILON, 1.0)
    return of_means(
        {"log_loss": -np.log(chosen), "accuracy": (probabilities.argmax(1) == labels).astype(float)}
    )


def of_probabilities(probabilities: NDArray[np.floating], labels: NDArray[np.bool_]) -> Measure:
    """Returns a measure of [N] probabilities of something that came true or not.

    Metrics that need both to happen are NaN where only one does, the calibration slope also where
    all probabilities are alike.
    """
    samples = sort_samples(probabilities, labels)
    means = of_means(
        {
            "base_rate": samples.labels,
            "log_loss": -np.log(np.where(samples.labels > 0, samples.p, 1 - samples.p)),
            "brier": (samples.p - samples.labels) ** 2,
        }
    )
    calibrated = calibration(samples)

    def measure(weights: Floats) -> dict[str, Floats]:
        sorted_weights = weights[:, samples.order]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return {
                **means(sorted_weights),
                **ranking_of(samples, sorted_weights),
                "ece": calibration_error(samples, sorted_weights),
                **calibrated(sorted_weights),
            }

    return measure


@dataclass(frozen=True, eq=False)
class SortedSamples:
    """N probabilities and labels, highest first, sorted once for all resamples."""

    order: NDArray[np.int64]  # [N]
    p: Floats  # [N]
    labels: Floats  # [N], 0 or 1
    ends: NDArray[np.int64]  # [G], where groups of equal probabilities end
    bins: NDArray[np.int64]  # [at most ECE_BINS], where bins start


def sort_samples(probabilities: NDArray[np.floating], labels: NDArray[np.bool_]) -> SortedSamples:
    """Sorts; equal probabilities stay together in one group and in one bin of equal mass."""
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    order = np.argsort(-p, kind="stable")
    p = p[order]
    ends = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    starts = np.append(0, ends[:-1] + 1)
    bin_of = ((starts + ends + 1) * ECE_BINS) // (2 * len(p))
    first = np.append(True, np.diff(bin_of) > 0)
    return SortedSamples(order, p, labels[order].astype(np.float64), ends, starts[first])


def ranking_of(samples: SortedSamples, weights: Floats) -> dict[str, Floats]:
    """Returns what depends on the order alone; equal probabilities are in random order."""
    n = weights.cumsum(1)[:, samples.ends]  # [R, G], samples down to each group
    hits = (weights * samples.labels).cumsum(1)[:, samples.ends]
    new_n, new_hits = (np.diff(each, axis=1, prepend=0.0) for each in (n, hits))
    total, positives = n[:, -1], hits[:, -1]
    misses, new_misses = n - hits, new_n - new_hits
    below = misses[:, -1:] - misses + new_misses / 2
    precision = hits / np.maximum(n, 1.0)
    recalls = {
        f"recall_at_precision_{floor}": np.where(hits >= floor * n, hits, 0.0).max(1) / positives
        for floor in PRECISIONS
    }
    lifts = {
        f"lift_at_{percent}_percent": hits_within(n, hits, total * percent / 100)
        / (positives * percent / 100)
        for percent in LIFT_PERCENTS
    }
    return {
        "pr_auc": (new_hits * precision).sum(1) / positives,
        "roc_auc": (new_hits * below).sum(1) / (positives * misses[:, -1]),
        **recalls,
        **lifts,
    }


def hits_within(n: Floats, hits: Floats, top: Floats) -> Floats:
    """Returns [R] hits among the first `top` samples, part of a group in proportion."""
    rows = np.arange(len(n))
    group = np.minimum((n < top[:, None]).sum(1), n.shape[1] - 1)
    before = np.maximum(group - 1, 0)
    n_before = np.where(group > 0, n[rows, before], 0.0)
    hits_before = np.where(group > 0, hits[rows, before], 0.0)
    share = (top - n_before) / (n[rows, group] - n_before)
    inside: Floats = hits_before + share * (hits[rows, group] - hits_before)
    return inside


def calibration_error(samples: SortedSamples, weights: Floats) -> Floats:
    """Returns [R] expected calibration errors over 15 bins of equal mass (Naeini et al. 2015)."""
    gaps = np.add.reduceat(weights * (samples.p - samples.labels), samples.bins, axis=1)
    error: Floats = np.abs(gaps).sum(1) / weights.sum(1)
    return error


def calibration(samples: SortedSamples) -> Measure:
    """Returns a measure of calibration slope and intercept (Cox 1958; Van Calster et al. 2019).

    The slope is that of a logistic regression on the logit: 1 is right, below 1 is over-confident.
    The intercept is that at a slope held at 1: 0 is right on average, below 0 is too high.
    Weighted samples are fitted by one Newton step from the fit to all, which is near enough to all
    of their fits and far cheaper.
    """
    x, y = logit(samples.p), samples.labels
    told_apart = 0 < y.sum() < len(y)
    varied = told_apart and np.ptp(x) > 1e-9
    intercept, slope = fit_logistic(x, y) if varied else (0.0, 1.0)
    shift = brentq(lambda a: float((expit(x + a) - y).sum()), -40, 40) if told_apart else 0.0
    joint, alone = newton_terms(x, y, intercept + slope * x), newton_terms(x, y, x + shift)

    def measure(weights: Floats) -> dict[str, Floats]:
        undefined = np.full(len(weights), np.nan)
        g0, g1, h0, h1, h2 = (weights @ joint).T
        moved, curvature = (weights @ alone)[:, [0, 2]].T
        slopes = slope + (h0 * g1 - h1 * g0) / (h0 * h2 - h1 * h1)
        return {
            "calibration_slope": slopes if varied else undefined,
            "calibration_intercept": shift + moved / curvature if told_apart else undefined,
        }

    return measure


def fit_logistic(x: Floats, y: Floats) -> tuple[float, float]:
    """Returns intercept and slope of a logistic regression on x, without a penalty."""
    fitted = LogisticRegression(C=1e9, tol=1e-8, max_iter=1_000).fit(x[:, None], y)
    return float(fitted.intercept_[0]), float(fitted.coef_[0, 0])


def newton_terms(x: Floats, y: Floats, log_odds: Floats) -> Floats:
    """Returns [N, 5]: each sample's part in the gradient (2) and in the curvature (3)."""
    p = expit(log_odds)
    residual, curvature = y - p, p * (1 - p)
    return np.stack([residual, residual * x, curvature, curvature * x, curvature * x * x], axis=1)


def reliability(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_]
) -> list[tuple[float, float, int]]:
    """Returns mean probability, share of positives and size of the bins of equal mass."""
    samples = sort_samples(probabilities, labels)
    sizes = np.diff(np.append(samples.bins, len(labels)))
    sums = (np.add.reduceat(each, samples.bins) for each in (samples.p, samples.labels))
    means, shares = (each / sizes for each in sums)
    rows = zip(means.tolist(), shares.tolist(), sizes.tolist(), strict=True)
    return list(rows)[::-1]


def of_ranks(
    ranks: NDArray[np.floating] | NDArray[np.int64], ks: tuple[int, ...]
) -> dict[tuple[str, int], Floats]:
    """Returns hit rate, NDCG and reciprocal rank at every k, each [N], of ranks that start at 0.

    There is one wanted product a sample, so the ideal DCG is 1.
    """
    gains = {"hr": np.ones(len(ranks)), "ndcg": 1 / np.log2(ranks + 2), "mrr": 1 / (ranks + 1)}
    return {(name, k): np.where(ranks < k, gain, 0.0) for k in ks for name, gain in gains.items()}


def expected_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_]
) -> float:
    """Returns the mean distance of probability and truth over 15 bins of equal mass."""
    bins = reliability(probabilities, labels)
    return sum(abs(mean - share) * size for mean, share, size in bins) / len(labels)
