"""The purchase head: it finds the law behind purchases, and its probabilities are true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from shopintent.trainer import purchase_head
from shopintent.trainer.evaluation.metrics import expected_calibration_error
from shopintent.trainer.logistic import regression
from shopintent.trainer.purchase_head import (
    FOLDS,
    MIN_POSITIVES,
    HorizonRequests,
    PurchaseHead,
    PurchaseRequests,
    fit_horizon,
    fit_platt,
    fit_purchase_head,
    out_of_fold,
)

LAW = np.array([1.2, -0.8, 0.5, 0.0])
BIAS = -2.0


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-log_odds))
    return probabilities


def lawful(n: int, *, seed: int) -> tuple[HorizonRequests, NDArray[np.float64]]:
    """Returns requests whose purchases follow the law, and their true probabilities."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(loc=3.0, scale=[1.0, 2.0, 0.5, 1.0], size=(n, 4))
    truth = sigmoid((inputs - 3.0) @ LAW + BIAS)
    requests = HorizonRequests(
        inputs.astype(np.float32),
        rng.random(n) < truth,
        rng.integers(0, n // 5, n),
        rng.integers(0, 10**6, n),
    )
    return requests, truth


def test_it_recovers_a_known_law_and_is_calibrated_on_fresh_shoppers() -> None:
    weights, bias = fit_horizon(lawful(12_000, seed=1)[0])
    fresh, truth = lawful(20_000, seed=2)
    probabilities = sigmoid(fresh.inputs @ weights + bias)
    assert np.abs(probabilities - truth).mean() < 0.01
    assert expected_calibration_error(probabilities, fresh.bought) < 0.015
    assert weights == pytest.approx(LAW, abs=0.12)


def test_the_folded_weights_are_the_pipeline_and_its_calibration() -> None:
    """Scaler, regression and Platt scaling in one, against sklearn step by step."""
    requests, _ = lawful(1500, seed=3)
    weights, bias = fit_horizon(requests)
    unseen = {each: out_of_fold(regression(each), requests) for each in purchase_head.PENALTIES}

    def loss(log_odds: NDArray[np.float64]) -> float:
        p = np.where(requests.bought, sigmoid(log_odds), 1 - sigmoid(log_odds))
        return float(-np.log(p).mean())

    best = min(unseen, key=lambda each: loss(unseen[each]))
    middle = np.quantile(requests.request_times, 1 - purchase_head.NEWEST_SHARE)
    newest = requests.request_times >= middle
    platt = LogisticRegression(C=1e6).fit(unseen[best][newest][:, None], requests.bought[newest])
    fitted = regression(best).fit(requests.inputs, requests.bought)
    expected = platt.predict_proba(fitted.decision_function(requests.inputs)[:, None])[:, 1]
    assert sigmoid(requests.inputs @ weights + bias) == pytest.approx(expected, abs=1e-5)


def test_an_input_that_never_varies_does_no_harm() -> None:
    requests, _ = lawful(600, seed=4)
    inputs = np.hstack([requests.inputs, np.full((600, 1), 7.0, np.float32)])
    weights, bias = fit_horizon(replace(requests, inputs=inputs))
    assert np.isfinite([*weights, bias]).all()
    assert weights[-1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("n_bought", [0, 3, MIN_POSITIVES - 1])
def test_too_few_purchases_give_their_rate(n_bought: int) -> None:
    requests, _ = lawful(400, seed=5)
    weights, bias = fit_horizon(replace(requests, bought=np.arange(400) < n_bought))
    assert not weights.any()
    assert sigmoid(np.array([bias]))[0] == pytest.approx((n_bought + 0.5) / 401)


def test_too_few_shoppers_give_the_rate() -> None:
    requests, _ = lawful(400, seed=6)
    weights, _ = fit_horizon(replace(requests, shoppers=np.arange(400) % (FOLDS - 1)))
    assert not weights.any()


def test_purchases_of_one_shopper_alone_give_the_rate() -> None:
    """The fold without this shopper has nothing to learn a purchase from."""
    requests, _ = lawful(400, seed=7)
    bought = np.arange(400) < 2 * MIN_POSITIVES
    shoppers = np.where(bought, 10_000, requests.shoppers)
    weights, bias = fit_horizon(replace(requests, bought=bought, shoppers=shoppers))
    assert not weights.any()
    assert sigmoid(np.array([bias]))[0] == pytest.approx((2 * MIN_POSITIVES + 0.5) / 401)


def test_no_shopper_is_judged_by_a_fit_that_has_seen_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[tuple[set[float], set[float]]] = []
    learn, judge = Pipeline.fit, Pipeline.decision_function

    def fit(self: Pipeline, inputs: NDArray[np.float32], *args: object) -> Pipeline:
        fits.append((set(inputs[:, 0].tolist()), set()))
        fitted: Pipeline = learn(self, inputs, *args)
        return fitted

    def decision_function(self: Pipeline, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        fits[-1][1].update(inputs[:, 0].tolist())
        judged: NDArray[np.float64] = judge(self, inputs)
        return judged

    monkeypatch.setattr(Pipeline, "fit", fit)
    monkeypatch.setattr(Pipeline, "decision_function", decision_function)
    requests, _ = lawful(600, seed=8)
    # The first input says whose request it is.
    requests.inputs[:, 0] = requests.shoppers
    out_of_fold(regression(0.01), requests)
    assert len(fits) == FOLDS
    for seen, judged in fits:
        assert judged
        assert not seen & judged
    assert set.union(*(judged for _, judged in fits)) == set(requests.shoppers.tolist())


def test_platt_scaling_mends_overconfidence_and_a_shifted_rate() -> None:
    rng = np.random.default_rng(10)
    truth = rng.normal(-1.5, 1.0, 20_000)
    bought = rng.random(20_000) < sigmoid(truth)
    slope, intercept = fit_platt(3 * truth + 2, bought)
    assert slope == pytest.approx(1 / 3, abs=0.03)
    assert intercept == pytest.approx(-2 / 3, abs=0.1)


def test_platt_scaling_never_turns_the_order_around() -> None:
    rng = np.random.default_rng(11)
    log_odds = rng.normal(size=500)
    assert fit_platt(log_odds, log_odds < 0) == (1.0, 0.0)
    assert fit_platt(log_odds, np.zeros(500, bool)) == (1.0, 0.0)


def test_every_column_is_fitted_to_its_own_known_labels() -> None:
    n_inputs = 6
    head = PurchaseHead(n_inputs, 2)
    rng = np.random.default_rng(12)
    n = 900
    inputs = rng.normal(size=(n, n_inputs)).astype(np.float32)
    bought = np.stack([inputs[:, 0] + rng.normal(size=n) > 1, inputs[:, -1] > 1.5], axis=1)
    known = np.ones((n, 2), bool)
    # Labels that are not known are lies: whoever counts them finds the opposite.
    known[: n // 2, 1] = False
    bought[: n // 2, 1] = inputs[: n // 2, -1] < 0
    shoppers, times = rng.integers(0, 200, n), rng.integers(0, 1000, n)
    fit_purchase_head(head, PurchaseRequests(inputs, bought, known, shoppers, times))
    assert int(head.weight[0].abs().argmax()) == 0
    assert float(head.weight[0, 0]) > 0.1
    assert int(head.weight[1].abs().argmax()) == n_inputs - 1
    assert float(head.weight[1, -1]) > 0.1
    half = slice(n // 2, None)
    weights, bias = fit_horizon(
        HorizonRequests(inputs[half], bought[half, 1], shoppers[half], times[half])
    )
    assert head.weight[1].numpy() == pytest.approx(weights, abs=1e-6)
    assert float(head.bias[1]) == pytest.approx(bias, abs=1e-6)
