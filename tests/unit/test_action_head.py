"""The next-action head: it finds the law behind actions, and knows what never came."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shopintent.trainer.action_head import ActionHead, fit_action_head
from shopintent.trainer.logistic import regression

N_INPUTS, N_ACTIONS = 9, 4


def head() -> ActionHead:
    return ActionHead(N_INPUTS, N_ACTIONS)


def lawful(
    actions: list[int], *, n: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Returns inputs, actions by a law of a state and a feature, and true probabilities."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(2.0, 1.5, (n, N_INPUTS)).astype(np.float32)
    law = np.random.default_rng(0).normal(size=(2, len(actions)))
    scores = (inputs[:, [0, 5]] - 2.0) @ law
    truth = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    drawn = (truth.cumsum(1) < rng.random((n, 1))).sum(1)
    return inputs, np.array(actions)[drawn], truth


def predicted(fitted: ActionHead, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = fitted(torch.tensor(inputs)).numpy()
    return probabilities


@pytest.mark.parametrize("actions", [[0, 1, 2, 3], [0, 2, 3], [1, 3]])
def test_it_recovers_the_law_and_an_action_that_never_came_is_all_but_impossible(
    actions: list[int],
) -> None:
    fitted = head()
    inputs, came, _ = lawful(actions, n=6_000, seed=1)
    fit_action_head(fitted, inputs, came, np.arange(len(came)))
    fresh, _, truth = lawful(actions, n=2_000, seed=2)
    probabilities = predicted(fitted, fresh)
    assert np.abs(probabilities[:, actions] - truth).mean() < 0.04
    absent = [each for each in range(N_ACTIONS) if each not in actions]
    assert (probabilities[:, absent] < 1e-2).all()


def test_requests_whose_action_is_not_known_do_not_count() -> None:
    heads = head(), head()
    inputs, came, _ = lawful([0, 1, 2, 3], n=500, seed=3)
    times = np.arange(len(came))
    fit_action_head(heads[0], inputs, came, times)
    noise = np.full_like(inputs, 99.0), np.full_like(came, -1)
    fit_action_head(
        heads[1],
        np.concatenate([inputs, noise[0]]),
        np.concatenate([came, noise[1]]),
        np.concatenate([times, times + 10**6]),
    )
    np.testing.assert_array_equal(predicted(heads[0], inputs), predicted(heads[1], inputs))


def test_an_action_that_alone_ever_came_is_all_but_certain() -> None:
    fitted = head()
    inputs, came, _ = lawful([2], n=50, seed=4)
    fit_action_head(fitted, inputs, came, np.arange(len(came)))
    assert (predicted(fitted, inputs)[:, 2] > 0.99).all()


def test_without_any_known_action_all_are_alike() -> None:
    fitted = head()
    inputs, came, _ = lawful([0, 1], n=50, seed=4)
    fit_action_head(fitted, inputs, np.full_like(came, -1), np.arange(len(came)))
    assert predicted(fitted, inputs) == pytest.approx(1 / N_ACTIONS)


def test_the_folded_weights_are_the_pipeline() -> None:
    fitted = head()
    inputs, came, _ = lawful([0, 1, 2, 3], n=800, seed=5)
    fit_action_head(fitted, inputs, came, np.arange(len(came)))
    fits = [regression(penalty).fit(inputs, came) for penalty in (1e-3, 1e-2)]
    distances = [
        np.abs(fit.predict_proba(inputs) - predicted(fitted, inputs)).max() for fit in fits
    ]
    assert min(distances) < 1e-4
