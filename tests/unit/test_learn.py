"""The training loop: it improves, keeps the best epoch, stops, and repeats itself by seed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer import learn as learning
from shopintent.trainer import training_state
from shopintent.trainer.batches import Batches, cut_windows
from shopintent.trainer.data.progress import silent
from shopintent.trainer.learn import (
    Validation,
    batch_losses,
    learn,
    matrix_precision,
    ndcg,
    observe,
    validate,
)
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import between
from support.learning import (
    CART,
    GAP_S,
    N_PRODUCTS,
    TINY,
    VIEW,
    Did,
    make_network,
    make_sampler,
    random_shoppers,
    sequences_of,
)

FOREVER = 10**9


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MIN_STEPS", 10)
    monkeypatch.setattr(training_state, "WARM_UP_STEPS", 2)


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
    return batches_of(sequences)


def batches_of(sequences: Sequences) -> Batches:
    span = between(sequences, 0, FOREVER)
    return Batches(sequences, cut_windows(sequences, span, 16), span, GAP_S, batch_events=128)


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

    def validated(network: IntentNetwork, *_: object, seen_filter: bool) -> Validation:
        weights.append(network.act.weight.detach().clone())
        return Validation(next(told), 0.0, ndcg=0.5, n_ranked=0)

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
    first, second = (validate(network, sampler, held, seen_filter=False) for _ in range(2))
    assert first == second
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])


def test_of_very_many_moments_a_part_is_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    network, sampler = make_network(seed=3), make_sampler()
    held = batches_of(sequences_of(random_shoppers(30, seed=4)))
    every = validate(network, sampler, held, seen_filter=False)
    n_slots = int(held.windows.n_slots.sum())
    monkeypatch.setattr(learning, "MAX_SCORES", n_slots * N_PRODUCTS // 4)
    some = validate(network, sampler, held, seen_filter=False)
    assert every.n_ranked // 5 < some.n_ranked < every.n_ranked // 2
    assert (some.action, some.product) == (every.action, every.product)


def test_a_batch_without_any_product_has_finite_losses() -> None:
    sequences = sequences_of([[Did(10, VIEW)], [Did(20, VIEW)]])
    (batch,) = batches_of(sequences).in_order()
    losses = batch_losses(make_network(), make_sampler(), batch)
    assert losses.product.item() == 0.0
    assert losses.action.item() > 0.0


def test_the_best_epoch_has_the_highest_ndcg_where_there_is_enough_to_rank() -> None:
    high, low = Validation(9.0, 9.0, 0.5, 500), Validation(1.0, 1.0, 0.1, 500)
    assert high.score(TINY) > low.score(TINY)
    assert replace(low, n_ranked=5).score(TINY) > replace(high, n_ranked=5).score(TINY)


def test_ndcg_is_that_of_a_slow_ranking() -> None:
    torch.manual_seed(3)
    queries, products = torch.randn(700, 4), torch.randn(30, 4)
    targets, seen = torch.randint(30, (700,)), torch.randint(-FIRST, 30, (700, 5)) + FIRST
    expected = []
    for query, target, ids in zip(queries, targets.tolist(), seen.tolist(), strict=True):
        scores = (products @ query).tolist()
        left = [n for n in range(30) if n + FIRST not in ids]
        rank = sum(scores[n] > scores[target] for n in left)
        expected.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
    assert ndcg(queries, products, targets, seen).tolist() == pytest.approx(expected, abs=1e-6)


def test_what_was_seen_is_that_of_the_same_shopper_before() -> None:
    sequences = sequences_of(
        [
            [Did(10, VIEW, 3), Did(20, VIEW, 4), Did(30, VIEW, 5)],
            [Did(10, VIEW, 6), Did(20, VIEW, 7)],
        ]
    )
    (batch,) = batches_of(sequences).in_order()
    moments = observe(make_network(), batch, torch.float32)
    seen = [sorted(set(row) - {0}) for row in moments.seen.tolist()]
    told = zip(moments.product_labels.tolist(), seen, strict=True)
    assert sorted(told) == [(4, [3]), (5, [3, 4]), (7, [6])]


def test_packed_training_sees_what_serving_sees() -> None:
    """Every moment of every window, in rows shared with others, as if it were asked alone."""
    sequences = sequences_of(random_shoppers(30, seed=2, longest=12))
    network = make_network()
    for batch in batches_of(sequences).in_order():
        moments = [torch.as_tensor(each) for each in batch]
        with torch.no_grad():
            _, packed = network.observe_all(moments[0].long(), *moments[1:5])
        for owner in range(int(batch.owners.max()) + 1):
            own = batch.owners == owner
            events, times = (torch.as_tensor(each[own][1:])[None] for each in batch[:2])
            asked = torch.as_tensor(batch.request_times[own])[None]
            with torch.no_grad():
                alone = network.observe(events.long(), times, torch.arange(own.sum())[None], asked)
            assert torch.allclose(packed[own], alone[1][0], atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_config_chooses_the_precision(precision: str) -> None:
    assert str(matrix_precision(precision, torch.device("cpu"))) == f"torch.{precision}"
    assert matrix_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)


def test_low_precision_changes_losses_but_little() -> None:
    batch = next(batches(seed=3).in_order())
    network, sampler = make_network(), make_sampler()
    exact = batch_losses(network, sampler, batch)
    rough = batch_losses(network, sampler, batch, torch.bfloat16)
    for one, other in zip(exact, rough, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=0.03)
        assert one.item() != other.item()
