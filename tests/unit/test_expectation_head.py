"""Expectation heads: they find the law behind a positive number, and say so when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shopintent.trainer.expectation_head import (
    MIN_SHOPPERS,
    MIN_TARGETS,
    ExpectationHead,
    fit_expectation,
)

N_INPUTS, N_STATE = 6, 2


def requests(
    n: int, *, seed: int, effect: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Returns inputs, targets of a log-linear law, shoppers, and the true expectations."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(3.0, 2.0, (n, N_INPUTS))
    true = np.exp(5.0 + effect * (0.3 * inputs[:, 0] - 0.2 * inputs[:, 1]))
    targets = np.maximum(rng.gamma(1.5, true / 1.5).round(), 1).astype(np.int64)
    return inputs.astype(np.float32), targets, rng.integers(0, n // 5, n), true


def expected(head: ExpectationHead, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = head(torch.tensor(inputs)).squeeze(1).numpy()
    return found


def fitted(n: int, *, seed: int, effect: float = 1.0) -> ExpectationHead:
    head = ExpectationHead(N_STATE, N_INPUTS - N_STATE)
    inputs, targets, shoppers, _ = requests(n, seed=seed, effect=effect)
    fit_expectation(head, inputs, targets, shoppers)
    return head


def test_it_expects_what_the_law_says() -> None:
    inputs, targets, _, true = requests(2_000, seed=9)
    found = expected(fitted(4_000, seed=1), inputs)
    inside = (true > np.quantile(targets, 0.05)) & (true < np.quantile(targets, 0.95))
    assert float(np.abs(np.log(found / true))[inside].mean()) < 0.1
    assert found.mean() == pytest.approx(targets.mean(), rel=0.1)


def test_where_inputs_say_nothing_it_expects_the_mean() -> None:
    inputs, targets, shoppers, _ = requests(400, seed=2, effect=0.0)
    head = fitted(400, seed=2, effect=0.0)
    assert expected(head, inputs) == pytest.approx(np.full(400, targets.mean()), rel=0.15)
    assert len(np.unique(shoppers)) > MIN_SHOPPERS


@pytest.mark.parametrize(
    ("n", "n_shoppers"), [(MIN_TARGETS - 1, MIN_TARGETS - 1), (500, MIN_SHOPPERS - 1)]
)
def test_with_too_little_to_go_by_it_says_that_it_expects_nothing(n: int, n_shoppers: int) -> None:
    head = ExpectationHead(N_STATE, N_INPUTS - N_STATE)
    inputs, targets, _, _ = requests(n, seed=3)
    fit_expectation(head, inputs, targets, np.arange(n) % n_shoppers)
    assert not head.given
    assert not head.weight.any()


def test_it_never_runs_away() -> None:
    head = fitted(1_000, seed=4)
    _, targets, _, _ = requests(1_000, seed=4)
    far = np.array([[1e4, -1e4, 0, 0, 0, 0], [-1e4, 1e4, 0, 0, 0, 0]], np.float32)
    high, low = expected(head, far)
    assert high == pytest.approx(np.quantile(targets, 0.99), rel=1e-3)
    assert low == pytest.approx(np.quantile(targets, 0.01), rel=1e-3)


def test_equal_targets_are_expected_as_they_are() -> None:
    head = ExpectationHead(N_STATE, N_INPUTS - N_STATE)
    inputs, _, shoppers, _ = requests(300, seed=5)
    fit_expectation(head, inputs, np.ones(300, np.int64), shoppers)
    assert head.given
    assert expected(head, inputs) == pytest.approx(np.ones(300))


def test_trees_find_what_is_not_linear() -> None:
    rng = np.random.default_rng(6)
    inputs = rng.normal(0.0, 1.0, (6_000, N_INPUTS)).astype(np.float32)
    true = np.where(np.abs(inputs[:, 4]) < 0.7, 400.0, 50.0)
    targets = np.maximum(rng.gamma(1.5, true / 1.5).round(), 1).astype(np.int64)
    head = ExpectationHead(N_STATE, N_INPUTS - N_STATE)
    fit_expectation(head, inputs[:4_000], targets[:4_000], np.arange(4_000) // 4)
    assert len(head.trees.features) > 0
    found = expected(head, inputs[4_000:])
    assert float(np.abs(np.log(found / true[4_000:])).mean()) < 0.25


def test_trees_look_at_features_and_not_at_the_state() -> None:
    rng = np.random.default_rng(7)
    inputs = rng.normal(0.0, 1.0, (3_000, N_INPUTS)).astype(np.float32)
    true = np.where(np.abs(inputs[:, 0]) < 0.7, 400.0, 50.0)
    targets = np.maximum(rng.gamma(1.5, true / 1.5).round(), 1).astype(np.int64)
    head = ExpectationHead(N_STATE, N_INPUTS - N_STATE)
    fit_expectation(head, inputs, targets, np.arange(3_000) // 4)
    assert expected(head, inputs).std() < 0.3 * targets.mean()
