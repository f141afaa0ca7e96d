"""The stack: it finds the law behind purchases, believes whom it should, and is calibrated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from shopintent.trainer import stack as stacking
from shopintent.trainer.evaluation.metrics import expected_calibration_error
from shopintent.trainer.logistic import fit_intercept, fit_platt, sigmoid
from shopintent.trainer.stack import (
    FOLDS,
    MIN_POSITIVES,
    Requests,
    Stack,
    believe,
    calibrate,
    fit_alone,
    fit_stack,
    out_of_fold,
)

WIDTH = 2
LAW = np.array([0.7, 0.0, 1.2, -0.8, 0.5, 0.0])
BIAS = -2.0


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "TREE_COUNTS", (10, 40))
    monkeypatch.setattr(stacking, "TREE_SHAPES", ((7, 0.01),))


def lawful(n: int, *, seed: int, crossed: bool = False) -> tuple[Requests, NDArray[np.float64]]:
    """Returns requests whose purchases follow the law, and their true probabilities.

    When `crossed` purchases follow what no line tells.
    """
    rng = np.random.default_rng(seed)
    readable = rng.normal(size=(n, len(LAW)))
    truth = sigmoid(readable @ LAW + BIAS)
    if crossed:
        truth = np.where(readable[:, 2] * readable[:, 3] > 0, 0.6, 0.1)
    requests = Requests(
        readable.astype(np.float32),
        readable[:, WIDTH:].astype(np.float32),
        rng.random(n) < truth,
        rng.integers(0, n // 5, n),
        rng.integers(0, 10**6, n),
        np.ones(n, bool),
    )
    return requests, truth


def probabilities(stack: Stack, requests: Requests) -> NDArray[np.float64]:
    log_odds = stack.linear.log_odds(requests.readable)
    if stack.booster is not None:
        raw = stack.booster.predict(requests.features, raw_score=True, num_iteration=stack.n_trees)
        log_odds = log_odds + stack.tree_weight * np.asarray(raw)
    return sigmoid(log_odds)


def test_it_recovers_a_known_law_and_is_calibrated_on_fresh_shoppers() -> None:
    stack = fit_stack(lawful(6_000, seed=1)[0])
    fresh, truth = lawful(10_000, seed=2)
    found = probabilities(stack, fresh)
    assert np.abs(found - truth).mean() < 0.02
    assert expected_calibration_error(found, fresh.bought) < 0.02


def test_trees_carry_what_no_line_tells() -> None:
    stack = fit_stack(lawful(4_000, seed=3, crossed=True)[0])
    fresh, truth = lawful(4_000, seed=4, crossed=True)
    assert stack.booster is not None
    assert stack.shares["trees"] > 0.5
    assert np.abs(probabilities(stack, fresh) - truth).mean() < 0.1


def test_an_expert_that_says_nothing_true_is_not_believed() -> None:
    requests, truth = lawful(4_000, seed=5)
    right = np.log(truth / (1 - truth))
    noise = np.random.default_rng(0).normal(size=len(right)) * 3
    weights = believe(np.stack([noise, right, noise - right], axis=1), requests)
    assert weights == pytest.approx([0.0, 1.0, 0.0], abs=0.1)


def test_an_input_that_never_varies_does_no_harm() -> None:
    requests, _ = lawful(600, seed=6)
    readable = requests.readable.copy()
    readable[:, 1] = 7.0
    stack = fit_stack(replace(requests, readable=readable))
    assert np.isfinite([*stack.linear.weights, stack.linear.bias]).all()
    assert stack.linear.weights[1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("n_bought", [0, 3, MIN_POSITIVES - 1])
def test_too_few_purchases_give_their_rate(n_bought: int) -> None:
    requests, _ = lawful(400, seed=7)
    few = replace(requests, bought=np.arange(400) < n_bought)
    for linear in (fit_stack(few).linear, fit_alone(few.features, few)):
        assert not linear.weights.any()
        expected = (n_bought + 0.5) / 401
        assert sigmoid(np.array([linear.bias]))[0] == pytest.approx(expected)


def test_too_few_shoppers_give_the_rate() -> None:
    requests, _ = lawful(400, seed=8)
    few = replace(requests, shoppers=np.arange(400) % (FOLDS - 1))
    assert not fit_stack(few).linear.weights.any()


def test_purchases_of_one_shopper_alone_give_the_rate() -> None:
    """The fold without this shopper has nothing to learn a purchase from."""
    requests, _ = lawful(400, seed=9)
    bought = np.arange(400) < 2 * MIN_POSITIVES
    shoppers = np.where(bought, 10_000, requests.shoppers)
    stack = fit_stack(replace(requests, bought=bought, shoppers=shoppers))
    assert not stack.linear.weights.any()


def test_no_shopper_is_judged_by_a_fit_that_has_seen_them() -> None:
    requests, _ = lawful(600, seed=10)
    judged_by: list[set[int]] = []

    def judge(learned: NDArray[np.int64], judged: NDArray[np.int64]) -> NDArray[np.float64]:
        shoppers = requests.shoppers
        assert not set(shoppers[learned]) & set(shoppers[judged])
        judged_by.append(set(shoppers[judged]))
        return shoppers[judged].astype(np.float64)

    assert out_of_fold(requests, judge).tolist() == requests.shoppers.tolist()
    assert set.union(*judged_by) == set(requests.shoppers)


def test_only_visits_without_a_purchase_are_calibrated_on() -> None:
    requests, truth = lawful(6_000, seed=11)
    right = np.log(truth / (1 - truth))
    undecided = np.arange(len(right)) % 2 == 0
    lied = replace(requests, undecided=undecided, bought=np.where(undecided, requests.bought, True))
    assert calibrate(right, lied) == pytest.approx((1.0, 0.0), abs=0.25)


def test_the_newest_requests_tell_how_often_shoppers_buy() -> None:
    requests, truth = lawful(20_000, seed=12)
    right = np.log(truth / (1 - truth))
    newest = requests.request_times >= np.quantile(requests.request_times, 0.7)
    rng = np.random.default_rng(0)
    later = rng.random(len(truth)) < sigmoid(right + 1.0)
    shifted = replace(requests, bought=np.where(newest, later, requests.bought))
    slope, intercept = calibrate(right, shifted)
    assert sigmoid(slope * right[newest] + intercept).mean() == pytest.approx(
        shifted.bought[newest].mean(), abs=1e-6
    )


def test_platt_scaling_mends_overconfidence_and_a_shifted_rate() -> None:
    rng = np.random.default_rng(13)
    truth = rng.normal(-1.5, 1.0, 20_000)
    bought = rng.random(20_000) < sigmoid(truth)
    slope, intercept = fit_platt(3 * truth + 2, bought)
    assert slope == pytest.approx(1 / 3, abs=0.03)
    assert intercept == pytest.approx(-2 / 3, abs=0.1)


def test_platt_scaling_never_turns_the_order_around() -> None:
    log_odds = np.random.default_rng(14).normal(size=500)
    assert fit_platt(log_odds, log_odds < 0) == (1.0, 0.0)


def test_an_intercept_gives_the_labels_their_share() -> None:
    rng = np.random.default_rng(15)
    log_odds, labels = rng.normal(size=900) * 3, rng.random(900) < 0.07
    shift = fit_intercept(log_odds, labels)
    assert sigmoid(log_odds + shift).mean() == pytest.approx(labels.mean(), abs=1e-9)


def test_one_expert_alone_is_the_regression_and_its_calibration() -> None:
    requests, _ = lawful(1500, seed=16)
    linear = fit_alone(requests.readable, requests)
    plain = LogisticRegression(C=1e6).fit(requests.readable, requests.bought)
    assert linear.weights == pytest.approx(plain.coef_[0], abs=0.15)
