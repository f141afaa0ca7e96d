"""The training loop: it improves, keeps the best epoch, stops, and repeats itself by seed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer import learn as learning
from shopintent.trainer.batches import Batches
from shopintent.trainer.candidates import Candidates, CandidateSampler
from shopintent.trainer.data.progress import silent
from shopintent.trainer.learn import batch_losses, learn, validate
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.sequences import cut_windows
from support.learning import (
    CART,
    GAP_S,
    N_PRODUCTS,
    TINY,
    VIEW,
    Did,
    make_network,
    make_sampler,
    sequences_of,
)

FOREVER = 10**9


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MIN_STEPS", 10)
    monkeypatch.setattr(learning, "WARM_UP_STEPS", 2)


def batches(*, seed: int, n: int = 30) -> Batches:
    """Returns shoppers who put into the cart what they have viewed, and then view the next one."""
    rng = np.random.default_rng(seed)
    shoppers = []
    for _ in range(n):
        product, events = int(rng.integers(N_PRODUCTS)), []
        for step in range(4):
            token = FIRST + (product + step) % N_PRODUCTS
            events += [Did(1000 + 20 * step, VIEW, token), Did(1010 + 20 * step, CART, token)]
        shoppers.append(events)
    sequences = sequences_of(shoppers)
    windows = cut_windows(sequences, after=0, before=FOREVER, max_events=16)
    return Batches(sequences, windows, 0, FOREVER, GAP_S, batch_events=64)


def train(
    max_epochs: int, *, seed: int = 1, **changes: float
) -> tuple[IntentNetwork, list[dict[str, float]], int]:
    network = make_network(random=False, dropout=0.0, id_dropout=0.0, d_model=16)
    config = replace(TINY, max_epochs=max_epochs, learning_rate=0.01, seed=seed, **changes)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    history, best = learn(
        network, make_sampler(), batches(seed=1), batches(seed=2, n=8), config, silent
    )
    return network, history, best


def test_it_learns_what_holds_for_other_shoppers_too() -> None:
    _, history, best = train(5)
    assert history[best]["validation_action"] < 0.5 * history[0]["validation_action"]
    assert history[best]["validation_product"] < 0.8 * history[0]["validation_product"]


def test_the_same_seed_learns_the_same_and_another_another() -> None:
    first, same, other = (train(2, seed=seed)[1] for seed in (1, 1, 5))
    assert first == same
    assert first != other


def test_it_keeps_the_best_epoch_and_stops_when_none_is_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = iter([3.0, 1.0, 2.0, 2.5, 0.5])
    weights = []

    def validated(network: IntentNetwork, *_: object) -> NDArray[np.float64]:
        weights.append(network.act.weight.detach().clone())
        return np.array([next(told), 0.0])

    monkeypatch.setattr(learning, "validate", validated)
    network, history, best = train(10, patience=2)
    assert [row["validation_action"] for row in history] == [3.0, 1.0, 2.0, 2.5]
    assert best == 1
    assert torch.equal(network.act.weight, weights[1])
    assert not torch.equal(network.act.weight, weights[3])


def test_it_stops_in_time_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))  # a batch takes a second
    monkeypatch.setattr(learning, "time", clock)
    network, history, best = train(50, max_minutes=0.5)
    assert next(seconds) == 32  # the start, and 31 batches
    assert 1 < len(history) < 5
    assert best < len(history)
    assert bool(torch.isfinite(network.act.weight).all())


def test_validation_is_the_same_every_time_and_changes_nothing() -> None:
    network, sampler, held = make_network(), make_sampler(full_softmax_up_to=1), batches(seed=2)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    state = torch.random.get_rng_state()
    assert validate(network, sampler, held).tolist() == validate(network, sampler, held).tolist()
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])


def test_a_batch_without_any_product_has_finite_losses() -> None:
    sequences = sequences_of([[Did(10, VIEW)], [Did(20, VIEW)]])
    windows = cut_windows(sequences, after=0, before=FOREVER, max_events=4)
    (batch,) = Batches(sequences, windows, 0, FOREVER, GAP_S, batch_events=64).in_order()
    losses = batch_losses(make_network(), make_sampler(), batch)
    assert losses.product.item() == 0.0
    assert losses.action.item() > 0.0


def test_too_many_scores_leave_out_requests_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MAX_SCORES", 5 * N_PRODUCTS)
    drawn: list[list[int]] = []
    draw = CandidateSampler.draw

    def watched(self: CandidateSampler, target_ids: Tensor) -> Candidates:
        drawn.append(target_ids.tolist())
        return draw(self, target_ids)

    monkeypatch.setattr(CandidateSampler, "draw", watched)
    batch = next(batches(seed=3).in_order())
    for seed in range(4):
        batch_losses(make_network(seed=seed), make_sampler(), batch)
    assert {len(each) for each in drawn} == {5}
    assert len({tuple(each) for each in drawn}) > 1
