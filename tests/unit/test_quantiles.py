"""Normal scores: the same for any scale, and none too large."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from shopintent.trainer.quantiles import TAIL, Quantiles, fit_quantiles


def scores(learned: NDArray[np.float32], asked: NDArray[np.float32]) -> NDArray[np.float32]:
    quantiles = Quantiles(learned.shape[1])
    fit_quantiles(quantiles, learned)
    found: NDArray[np.float32] = quantiles(torch.tensor(asked)).numpy()
    return found


def test_normal_numbers_are_their_own_scores() -> None:
    values = np.random.default_rng(0).normal(size=(20_000, 1)).astype(np.float32)
    asked = np.linspace(-2, 2, 41, dtype=np.float32)[:, None]
    assert scores(values, asked) == pytest.approx(asked, abs=0.08)


def test_the_scale_does_not_matter() -> None:
    values = np.random.default_rng(1).normal(size=(2000, 1)).astype(np.float32)
    stretched = 1000 * values + 7
    assert scores(stretched, stretched) == pytest.approx(scores(values, values), abs=0.05)


def test_equal_values_share_the_middle_of_their_ranks() -> None:
    values = np.repeat([0.0, 5.0], [300, 100]).astype(np.float32)[:, None]
    found = scores(values, np.array([[0.0], [5.0]], np.float32))
    assert found[:, 0] == pytest.approx(norm.ppf([0.375, 0.875]), abs=1e-5)


def test_what_lies_beyond_training_scores_as_its_ends() -> None:
    values = np.arange(10_000, dtype=np.float32)[:, None]
    found = scores(values, np.array([[-1e6], [1e6]], np.float32))
    assert found[:, 0] == pytest.approx(norm.ppf([TAIL, 1 - TAIL]), abs=1e-5)


def test_a_feature_that_never_varies_scores_zero() -> None:
    values = np.full((50, 1), 7.0, np.float32)
    assert not scores(values, np.array([[6.0], [7.0], [8.0]], np.float32)).any()


def test_numbers_that_are_all_but_equal_score_all_but_alike() -> None:
    """Another runtime rounds otherwise, and its answers must not differ by that."""
    rng = np.random.default_rng(2)
    known = np.array([1, 1 + 2e-7, 14, 14 + 1e-6, 3], np.float32)
    values = rng.choice(known, size=(900, 1))
    near = values * np.float32(1 + 2e-7)
    assert scores(values, near) == pytest.approx(scores(values, values), abs=1e-4)


def test_fitting_again_forgets_the_first_fit() -> None:
    quantiles = Quantiles(1)
    fit_quantiles(quantiles, np.arange(1000, dtype=np.float32)[:, None])
    few = np.repeat([0.0, 5.0], [300, 100]).astype(np.float32)[:, None]
    fit_quantiles(quantiles, few)
    assert quantiles(torch.tensor(few)).numpy() == pytest.approx(scores(few, few))
