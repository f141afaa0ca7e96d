"""Confidence intervals: they cover, they widen where shoppers repeat, and pairs share draws."""

from __future__ import annotations

import numpy as np
import pytest

from shopintent.trainer.evaluation.bootstrap import (
    MIN_RESAMPLES,
    RESAMPLES,
    bootstrap,
    n_resamples,
    shopper_weights,
)
from shopintent.trainer.evaluation.metrics import of_means, of_probabilities


def test_intervals_of_a_mean_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        values = rng.exponential(2.0, 150)
        ci = bootstrap(of_means({"mean": values}), np.arange(150), seed=trial)["mean"].ci
        assert ci is not None
        covered += ci[0] <= 2.0 <= ci[1]
    assert 86 <= covered <= 99


def test_intervals_cover_where_samples_of_a_shopper_are_alike() -> None:
    rng = np.random.default_rng(1)
    covered = naive = 0
    for trial in range(60):
        shoppers = np.repeat(np.arange(60), 10)
        values = rng.normal(size=60)[shoppers] + 0.1 * rng.normal(size=600)
        measure = of_means({"mean": values})
        ci = bootstrap(measure, shoppers, seed=trial)["mean"].ci
        narrow = bootstrap(measure, np.arange(600), seed=trial)["mean"].ci
        assert ci is not None
        assert narrow is not None
        covered += ci[0] <= 0 <= ci[1]
        naive += narrow[0] <= 0 <= narrow[1]
    assert covered >= 50
    assert naive <= 40


def test_intervals_of_a_roc_auc_cover_the_truth() -> None:
    rng = np.random.default_rng(2)
    truth = 0.7602  # of two normal distributions one apart: Phi(1 / sqrt 2)
    covered = 0
    for trial in range(40):
        labels = rng.random(250) < 0.3
        scores = rng.normal(size=250) + labels
        measure = of_probabilities(1 / (1 + np.exp(-scores)), labels)
        ci = bootstrap(measure, np.arange(250), seed=trial)["roc_auc"].ci
        assert ci is not None
        covered += ci[0] <= truth <= ci[1]
    assert covered >= 34


def test_the_interval_of_the_calibration_error_of_true_probabilities_reaches_down_to_0() -> None:
    rng = np.random.default_rng(3)
    p = rng.beta(1, 6, 3_000)
    measure = of_probabilities(p, rng.random(3_000) < p)
    ece = bootstrap(measure, np.arange(3_000), seed=1)["ece"]
    assert ece.ci is not None
    assert ece.ci[0] < 0.005 < ece.draws.mean()


def test_every_resample_draws_as_many_shoppers_with_all_their_samples() -> None:
    shoppers = np.array([5, 5, 9, 7, 7, 7])
    weights = np.concatenate(list(shopper_weights(shoppers, seed=0)))
    assert weights.shape == (RESAMPLES, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all()
    assert weights.mean(0) == pytest.approx(1.0, abs=0.1)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    measure = of_means({"mean": np.arange(30.0)})
    first, again, other = (
        bootstrap(measure, np.arange(30), seed=seed)["mean"].ci for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_model_is_compared_on_the_same_draws() -> None:
    rng = np.random.default_rng(4)
    shoppers = rng.integers(0, 80, 400)
    easy = rng.normal(size=80)[shoppers]  # what both models have alike
    ours, theirs = (
        bootstrap(of_means({"mean": easy + gain}), shoppers, seed=7)["mean"]
        for gain in (0.05 + 0.01 * rng.normal(size=400), 0.0)
    )
    difference = ours.minus(theirs)
    assert difference.value == pytest.approx(0.05, abs=0.005)
    assert ours.ci is not None
    assert theirs.ci is not None
    assert difference.ci is not None
    assert ours.ci[0] < theirs.ci[1]  # alone they overlap
    assert 0.04 < difference.ci[0] < difference.ci[1] < 0.06


def test_a_single_shopper_has_a_value_and_no_interval() -> None:
    estimate = bootstrap(of_means({"mean": np.array([1.0, 3.0])}), np.zeros(2, int), seed=0)["mean"]
    assert estimate.value == 2.0
    assert estimate.ci is None


def test_what_is_not_defined_is_left_out() -> None:
    measure = of_probabilities(np.array([0.1, 0.2, 0.3]), np.zeros(3, bool))
    estimates = bootstrap(measure, np.arange(3), seed=0)
    assert "roc_auc" not in estimates
    assert "brier" in estimates


def test_a_metric_that_few_resamples_have_is_told_without_an_interval() -> None:
    labels = np.arange(40) == 7
    few = bootstrap(of_probabilities(np.linspace(0.1, 0.9, 40), labels), np.arange(40), seed=0)
    assert few["roc_auc"].ci is not None  # drawn at least once in 64 % of the resamples
    gone = few["roc_auc"]
    assert np.isnan(gone.draws).any()
    assert type(gone)(gone.value, np.where(np.arange(1000) < 400, gone.draws, np.nan)).ci is None


def test_many_samples_have_fewer_resamples() -> None:
    assert n_resamples(10_000) == RESAMPLES
    assert n_resamples(50_000) == 400
    assert n_resamples(10**7) == MIN_RESAMPLES
