"""Measures of weighted samples against scikit-learn and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from shopintent.trainer.evaluation.bootstrap import Measure
from shopintent.trainer.evaluation.metrics import (
    ECE_BINS,
    of_actions,
    of_means,
    of_probabilities,
    of_ranks,
    reliability,
)


def drawn(
    n: int, *, seed: int = 0, digits: int = 9
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns probabilities that are true, and labels drawn from them; few digits make ties."""
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(1, 6, n).round(digits)
    return probabilities, rng.random(n) < probabilities


def once(measure: Measure, n: int) -> dict[str, float]:
    """Returns the metrics of all samples, each counted once."""
    return {name: float(value[0]) for name, value in measure(np.ones((1, n))).items()}


@pytest.mark.parametrize("digits", [9, 2, 1])
def test_weighted_metrics_agree_with_scikit_learn(digits: int) -> None:
    p, labels = drawn(400, digits=digits)
    weights = np.random.default_rng(1).integers(0, 4, (3, 400)).astype(float)
    metrics = of_probabilities(p, labels)(weights)
    clipped = np.clip(p, 1e-7, 1 - 1e-7)
    for row, weight in enumerate(weights):
        expected = {
            "base_rate": np.average(labels, weights=weight),
            "pr_auc": average_precision_score(labels, p, sample_weight=weight),
            "roc_auc": roc_auc_score(labels, p, sample_weight=weight),
            "log_loss": log_loss(labels, clipped, sample_weight=weight),
            "brier": brier_score_loss(labels, clipped, sample_weight=weight),
        }
        for name, value in expected.items():
            assert metrics[name][row] == pytest.approx(value), name


def test_the_calibration_slope_is_that_of_a_regression_on_the_logit_and_near_to_weighted_ones() -> (
    None
):
    p, labels = drawn(2_000, seed=3)
    logits = np.log(p / (1 - p)).clip(-16, 16)
    draws = np.random.default_rng(2).integers(0, 2_000, (3, 2_000))
    weights = np.stack([np.bincount(each, minlength=2_000) for each in draws]).astype(float)
    weights[0] = 1.0
    slopes = of_probabilities(p, labels)(weights)["calibration_slope"]
    for slope, weight, off in zip(slopes, weights, (1e-4, 0.01, 0.01), strict=True):
        fitted = LogisticRegression(C=1e9, tol=1e-9).fit(logits[:, None], labels, weight)
        assert slope == pytest.approx(fitted.coef_[0, 0], rel=off)


def test_true_probabilities_are_calibrated_and_others_are_not() -> None:
    p, labels = drawn(60_000)
    right = once(of_probabilities(p, labels), 60_000)
    doubled = once(of_probabilities(np.minimum(2 * p, 1.0), labels), 60_000)
    odds = p / (1 - p)
    sharp = once(of_probabilities(odds**2 / (1 + odds**2), labels), 60_000)
    assert right["ece"] < 0.01
    assert right["calibration_slope"] == pytest.approx(1.0, abs=0.03)
    assert right["calibration_intercept"] == pytest.approx(0.0, abs=0.05)
    assert doubled["ece"] == pytest.approx(float(np.minimum(2 * p, 1).mean() - p.mean()), abs=0.01)
    assert doubled["calibration_intercept"] < -0.5
    assert sharp["calibration_slope"] == pytest.approx(0.5, abs=0.02)


def test_the_calibration_error_is_that_of_bins_of_equal_mass() -> None:
    p, labels = drawn(1_500, seed=4)
    order = np.argsort(p)
    parts = np.array_split(order, ECE_BINS)
    expected = sum(abs(p[part].mean() - labels[part].mean()) / ECE_BINS for part in parts)
    assert once(of_probabilities(p, labels), 1_500)["ece"] == pytest.approx(expected)
    assert [size for _, _, size in reliability(p, labels)] == [100] * ECE_BINS


def test_equal_probabilities_share_a_bin() -> None:
    p, labels = np.repeat([0.1, 0.3], 50), np.arange(100) % 10 == 0
    bins = np.array(reliability(p, labels))
    assert bins == pytest.approx(np.array([[0.1, 0.1, 50], [0.3, 0.1, 50]]))
    assert once(of_probabilities(p, labels), 100)["ece"] == pytest.approx(0.1)


def test_fewer_samples_than_bins_are_fine() -> None:
    bins = reliability(np.array([0.9, 0.1]), np.array([True, False]))
    assert bins == [(0.1, 0.0, 1), (0.9, 1.0, 1)]


def test_lift_and_recall_by_hand() -> None:
    p = np.linspace(0.001, 0.999, 200)
    labels = np.zeros(200, bool)
    labels[[199, 197, 196, 190, 50]] = True
    metrics = once(of_probabilities(p, labels), 200)
    # Of the highest two one buys, of the highest ten four do; the base rate is 5 in 200.
    assert metrics["lift_at_1_percent"] == pytest.approx((1 / 2) / (5 / 200))
    assert metrics["lift_at_5_percent"] == pytest.approx((4 / 10) / (5 / 200))
    # Three of the first four buy; the fourth of the first ten: 0.4; the fifth comes far below 0.2.
    assert metrics["recall_at_precision_0.5"] == pytest.approx(3 / 5)
    assert metrics["recall_at_precision_0.2"] == pytest.approx(4 / 5)


def test_a_constant_tells_nothing_apart() -> None:
    labels = np.arange(40) < 10
    metrics = once(of_probabilities(np.full(40, 0.25), labels), 40)
    assert metrics["roc_auc"] == pytest.approx(0.5)
    assert metrics["pr_auc"] == pytest.approx(0.25)
    assert metrics["ece"] == pytest.approx(0.0)
    assert metrics["lift_at_5_percent"] == pytest.approx(1.0)
    assert metrics["calibration_intercept"] == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(metrics["calibration_slope"])


@pytest.mark.parametrize("label", [False, True])
def test_labels_all_alike_have_no_ranking_and_still_an_error(label: bool) -> None:
    metrics = once(of_probabilities(np.array([0.2, 0.4]), np.array([label] * 2)), 2)
    undefined = {name for name, value in metrics.items() if not math.isfinite(value)}
    assert {"roc_auc", "calibration_slope", "calibration_intercept"} <= undefined
    assert metrics["ece"] == pytest.approx(0.7 if label else 0.3)
    assert math.isfinite(metrics["log_loss"])


def test_certain_and_wrong_costs_much_and_not_infinitely() -> None:
    metrics = once(of_probabilities(np.array([0.0, 1.0]), np.array([True, False])), 2)
    assert 10 < metrics["log_loss"] < 20


def test_next_actions_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    probabilities, labels = rng.dirichlet(np.ones(4), 100), rng.integers(0, 4, 100)
    metrics = once(of_actions(probabilities, labels), 100)
    assert metrics["accuracy"] == pytest.approx((probabilities.argmax(1) == labels).mean())
    assert metrics["log_loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(4)))


def test_rank_metrics_by_hand() -> None:
    means = once(
        of_means(
            {
                f"{name}@{k}": each
                for (name, k), each in of_ranks(
                    np.array([0.0, 2.0, 9.0, 10.0, 0.5]), (1, 10)
                ).items()
            }
        ),
        5,
    )
    logs = [1.0, 1 / math.log2(4), 1 / math.log2(11), 1 / math.log2(2.5)]
    assert means["hr@1"] == pytest.approx(2 / 5)
    assert means["hr@10"] == pytest.approx(4 / 5)
    assert means["ndcg@10"] == pytest.approx(sum(logs) / 5)
    assert means["mrr@10"] == pytest.approx((1 + 1 / 3 + 1 / 10 + 1 / 1.5) / 5)
