"""Metrics against slow references and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from shopintent.trainer.evaluation.evaluate import rank_of
from shopintent.trainer.evaluation.metrics import (
    ECE_BINS,
    action_metrics,
    expected_calibration_error,
    probability_metrics,
    ranking_metrics,
    reliability,
)


def drawn(n: int, *, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns probabilities that are true, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(1, 6, n)
    return probabilities, rng.random(n) < probabilities


def test_probability_metrics_agree_with_scikit_learn() -> None:
    p, labels = drawn(500)
    metrics = probability_metrics(p, labels)
    assert metrics is not None
    assert metrics.samples == 500
    assert metrics.base_rate == pytest.approx(labels.mean())
    assert metrics.pr_auc == pytest.approx(average_precision_score(labels, p))
    assert metrics.roc_auc == pytest.approx(roc_auc_score(labels, p))
    assert metrics.log_loss == pytest.approx(log_loss(labels, p))
    assert metrics.brier == pytest.approx(brier_score_loss(labels, p))


def test_true_probabilities_are_calibrated_and_others_are_not() -> None:
    p, labels = drawn(60_000)
    right = probability_metrics(p, labels)
    doubled = probability_metrics(np.minimum(2 * p, 1.0), labels)
    logits = np.log(p / (1 - p))
    sharp = probability_metrics(1 / (1 + np.exp(-2 * logits)), labels)
    assert right is not None
    assert doubled is not None
    assert sharp is not None
    assert right.ece < 0.01
    assert right.calibration_slope == pytest.approx(1.0, abs=0.03)
    assert doubled.ece == pytest.approx(float(np.minimum(2 * p, 1).mean() - p.mean()), abs=0.01)
    assert sharp.calibration_slope == pytest.approx(0.5, abs=0.02)


def test_the_calibration_error_is_that_of_bins_of_equal_mass() -> None:
    p, labels = drawn(1_000, seed=4)
    order = sorted(range(1_000), key=lambda n: p[n])
    expected = 0.0
    for part in np.array_split(order, ECE_BINS):
        expected += len(part) / 1_000 * abs(p[part].mean() - labels[part].mean())
    assert expected_calibration_error(p, labels) == pytest.approx(expected)
    assert sum(size for _, _, size in reliability(p, labels)) == 1_000


def test_fewer_samples_than_bins_are_fine() -> None:
    bins = reliability(np.array([0.9, 0.1]), np.array([True, False]))
    assert bins == [(0.1, 0.0, 1), (0.9, 1.0, 1)]


def test_lift_is_how_much_more_often_the_highest_buy() -> None:
    p = np.linspace(0, 1, 100)
    labels = np.zeros(100, bool)
    labels[[96, 97, 98, 10, 20]] = True  # three of the highest five
    metrics = probability_metrics(p, labels)
    assert metrics is not None
    assert metrics.lift_at_5_percent == pytest.approx((3 / 5) / (5 / 100))


def test_a_constant_tells_nothing_apart() -> None:
    metrics = probability_metrics(np.full(40, 0.25), np.arange(40) < 10)
    assert metrics is not None
    assert metrics.roc_auc == pytest.approx(0.5)
    assert metrics.ece == pytest.approx(
        expected_calibration_error(np.full(40, 0.25), np.arange(40) < 10)
    )
    assert metrics.calibration_slope == 0.0


@pytest.mark.parametrize("labels", [[], [False, False], [True, True]])
def test_labels_all_alike_have_no_metrics(labels: list[bool]) -> None:
    assert probability_metrics(np.full(len(labels), 0.5), np.array(labels, bool)) is None


def test_certain_and_wrong_costs_much_and_not_infinitely() -> None:
    metrics = probability_metrics(np.array([0.0, 1.0]), np.array([True, False]))
    assert metrics is not None
    assert 10 < metrics.log_loss < 20


def test_ranking_metrics_agree_with_a_slow_reference() -> None:
    ranks = np.random.default_rng(1).integers(0, 40, 200)
    top_10 = np.random.default_rng(2).integers(0, 30, (200, 10))
    metrics = ranking_metrics(ranks, top_10, 50)
    assert metrics is not None
    hits = [rank for rank in ranks if rank < 10]
    assert metrics.hr_at_10 == pytest.approx(len(hits) / 200)
    assert metrics.ndcg_at_10 == pytest.approx(sum(1 / math.log2(r + 2) for r in hits) / 200)
    assert metrics.mrr == pytest.approx(sum(1 / (rank + 1) for rank in ranks) / 200)
    assert metrics.coverage_at_10 == pytest.approx(len(set(top_10.ravel().tolist())) / 50)


def test_no_samples_have_no_metrics() -> None:
    none = np.zeros(0, np.int64)
    assert ranking_metrics(none, np.zeros((0, 10), np.int64), 5) is None
    assert action_metrics(np.zeros((0, 3)), none) is None


def test_a_rank_is_the_number_of_better_products_and_of_half_the_equal_ones() -> None:
    scores = np.array(
        [[0.9, 0.5, 0.1], [0.5, 0.5, 0.5], [0.1, 0.5, 0.9], [0.3, 0.3, 0.1]], np.float32
    )
    assert rank_of(scores, np.array([0, 1, 0, 0])).tolist() == [0, 1, 2, 0]


def test_ranks_agree_with_sorting_when_there_are_no_ties() -> None:
    rng = np.random.default_rng(3)
    scores = rng.permutation(60 * 30).reshape(60, 30).astype(np.float32)
    wanted = rng.integers(0, 30, 60)
    pairs = zip(scores, wanted, strict=True)
    slow = [sorted(row, reverse=True).index(row[each]) for row, each in pairs]
    assert rank_of(scores, wanted).tolist() == slow


def test_equal_scores_everywhere_give_the_middle_rank() -> None:
    assert rank_of(np.zeros((1, 101), np.float32), np.array([7])).tolist() == [50]


def test_action_metrics_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet(np.ones(4), 100)
    labels = rng.integers(0, 4, 100)
    metrics = action_metrics(probabilities, labels)
    assert metrics is not None
    assert metrics.samples == 100
    assert metrics.accuracy == pytest.approx((probabilities.argmax(1) == labels).mean())
    assert metrics.log_loss == pytest.approx(log_loss(labels, probabilities, labels=range(4)))
