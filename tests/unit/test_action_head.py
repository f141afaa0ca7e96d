"""The next-action head: it finds the law behind actions, and knows what never came."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shopintent.trainer.action_head import fit_action_head
from shopintent.trainer.logistic import regression
from shopintent.trainer.model import IntentNetwork
from support.learning import MODEL, make_network


def n_inputs(network: IntentNetwork) -> int:
    return MODEL.d_model + network.act_features.weight.shape[1]


def lawful(
    network: IntentNetwork, actions: list[int], *, n: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Returns inputs, actions by a law of a state and a feature, and true probabilities."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(2.0, 1.5, (n, n_inputs(network))).astype(np.float32)
    law = np.random.default_rng(0).normal(size=(2, len(actions)))
    scores = (inputs[:, [0, MODEL.d_model]] - 2.0) @ law
    truth = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    drawn = (truth.cumsum(1) < rng.random((n, 1))).sum(1)
    return inputs, np.array(actions)[drawn], truth


def predicted(network: IntentNetwork, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    given = torch.tensor(inputs)
    with torch.no_grad():
        logits = network.act(given[:, : MODEL.d_model])
        logits = logits + network.act_features(given[:, MODEL.d_model :])
        probabilities: NDArray[np.float32] = logits.softmax(-1).numpy()
    return probabilities


@pytest.mark.parametrize("actions", [[0, 1, 2, 3], [0, 2, 3], [1, 3]])
def test_it_recovers_the_law_and_an_action_that_never_came_is_all_but_impossible(
    actions: list[int],
) -> None:
    network = make_network()
    inputs, came, _ = lawful(network, actions, n=6_000, seed=1)
    fit_action_head(network, inputs, came, np.arange(len(came)))
    fresh, _, truth = lawful(network, actions, n=2_000, seed=2)
    probabilities = predicted(network, fresh)
    assert np.abs(probabilities[:, actions] - truth).mean() < 0.04
    absent = [each for each in range(MODEL.n_actions) if each not in actions]
    assert (probabilities[:, absent] < 1e-2).all()


def test_requests_whose_action_is_not_known_do_not_count() -> None:
    networks = make_network(), make_network()
    inputs, came, _ = lawful(networks[0], [0, 1, 2, 3], n=500, seed=3)
    times = np.arange(len(came))
    fit_action_head(networks[0], inputs, came, times)
    noise = np.full_like(inputs, 99.0), np.full_like(came, -1)
    fit_action_head(
        networks[1],
        np.concatenate([inputs, noise[0]]),
        np.concatenate([came, noise[1]]),
        np.concatenate([times, times + 10**6]),
    )
    np.testing.assert_array_equal(predicted(networks[0], inputs), predicted(networks[1], inputs))


def test_with_one_action_only_the_head_stays_as_it_was() -> None:
    network = make_network()
    before = network.act.weight.clone()
    inputs, came, _ = lawful(network, [2], n=50, seed=4)
    fit_action_head(network, inputs, came, np.arange(len(came)))
    assert torch.equal(network.act.weight, before)


def test_the_folded_weights_are_the_pipeline() -> None:
    network = make_network()
    inputs, came, _ = lawful(network, [0, 1, 2, 3], n=800, seed=5)
    fit_action_head(network, inputs, came, np.arange(len(came)))
    fits = [regression(penalty).fit(inputs, came) for penalty in (1e-3, 1e-2)]
    distances = [
        np.abs(fit.predict_proba(inputs) - predicted(network, inputs)).max() for fit in fits
    ]
    assert min(distances) < 1e-4
