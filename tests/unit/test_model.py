"""The network: what shape it answers in, what it may see, and what it can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.behavior.vocabulary import UNKNOWN
from shopintent.trainer.batches import Batch, Batches, cut_windows
from shopintent.trainer.export import ServedIntent
from shopintent.trainer.learn import batch_losses
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.splits import between
from support.learning import (
    FIELD_SIZES,
    MODEL,
    TINY,
    content,
    make_heads,
    make_network,
    make_sampler,
    random_shoppers,
    sequences_of,
)

LENGTH = 7


def random_events(seed: int, *, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    """Returns [3, T, 9] events and [3, T] times; every id is known."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(1, size, (3, length)) for size in (*FIELD_SIZES.values(), 50)]
    times = 1_700_000_000 + rng.integers(0, 4000, (3, length)).cumsum(axis=1)
    return torch.tensor(np.stack(columns, axis=-1)), torch.tensor(times)


def after_each(events: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Returns n_seen [B, T + 1] and request times [B, T + 1]: before the first, after each."""
    n_seen = torch.arange(times.shape[1] + 1).expand(len(times), -1)
    return n_seen, torch.cat([times[:, :1], times], dim=1) + 3


Answers = tuple[Tensor, Tensor]
"""States and behavior embeddings."""


def same(answers: Answers, others: Answers, *, up_to: int | None = None) -> bool:
    return all(
        torch.allclose(a[:, :up_to], b[:, :up_to], atol=1e-5)
        for a, b in zip(answers, others, strict=True)
    )


def test_every_request_gets_an_answer_of_every_head() -> None:
    events, times = random_events(0)
    answers = make_network().observe(events, times, *after_each(events, times))
    assert [each.shape for each in answers] == [(3, LENGTH + 1, MODEL.d_model)] * 2


@pytest.mark.parametrize("layers", [1, 2])
def test_an_answer_knows_nothing_of_events_behind_its_request(layers: int) -> None:
    network = make_network(n_layers=layers)
    events, times = random_events(1)
    other_events, other_times = random_events(2)
    asked = after_each(events, times)
    answers = network.observe(events, times, *asked)
    for seen in range(LENGTH):
        changed, changed_times = events.clone(), times.clone()
        changed[:, seen:], changed_times[:, seen:] = other_events[:, seen:], other_times[:, seen:]
        others = network.observe(changed, changed_times, *asked)
        assert same(answers, others, up_to=seen + 1), f"request {seen} saw the future"
        for mine, other in zip(answers, others, strict=True):
            assert not torch.allclose(mine[:, seen + 1], other[:, seen + 1], atol=1e-3)


def test_an_answer_is_the_same_whatever_the_padding_behind_it() -> None:
    network = make_network()
    events, times = random_events(3)
    asked = after_each(events, times)
    room = MODEL.max_events - LENGTH
    zeros = torch.zeros(3, room, events.shape[2], dtype=events.dtype)
    padded = torch.cat([events, zeros], dim=1)
    padded_times = torch.cat([times, torch.zeros(3, room, dtype=times.dtype)], dim=1)
    assert same(
        network.observe(padded, padded_times, *asked), network.observe(events, times, *asked)
    )


def test_an_answer_does_not_depend_on_the_other_behaviors_of_the_batch() -> None:
    network = make_network()
    events, times = random_events(4)
    n_seen, asked = after_each(events, times)
    together = network.observe(events, times, n_seen, asked)
    alone = network.observe(events[1:2], times[1:2], n_seen[1:2], asked[1:2])
    assert same((together[0][1:2], together[1][1:2]), alone)


def test_every_field_of_an_event_and_both_times_count() -> None:
    network = make_network()
    events, times = random_events(5)
    network.products.centroids.normal_()
    events[:, 2, 1] = UNKNOWN  # the codes of a product with a vector of its own say nothing new
    n_seen, asked = torch.full((3, 1), LENGTH), times[:, -1:] + 60
    base = network.observe(events, times, n_seen, asked)[0]
    for field in range(events.shape[2] - 1):  # quantity is for the heads
        changed = events.clone()
        changed[:, 2, field] = changed[:, 2, field] % (list(FIELD_SIZES.values())[field] - 1) + 1
        assert not torch.allclose(network.observe(changed, times, n_seen, asked)[0], base)
    earlier = times.clone()
    earlier[:, :3] -= 100_000
    assert not torch.allclose(network.observe(events, earlier, n_seen, asked)[0], base)
    assert not torch.allclose(network.observe(events, times, n_seen, asked + 9_000)[0], base)


def test_embeddings_have_length_one() -> None:
    network = make_network()
    events, times = random_events(6)
    behaviors = network.observe(events, times, *after_each(events, times))[1]
    sampler = make_sampler()
    products = network.products(sampler.tokens, sampler.text_embeddings)
    for embeddings in (behaviors, products):
        assert torch.allclose(embeddings.norm(dim=-1), torch.ones(embeddings.shape[:-1]))


def test_a_cold_start_gets_probabilities() -> None:
    served = ServedIntent(make_network(), make_heads())
    empty = torch.zeros(1, MODEL.max_events, len(EVENT_FIELDS), dtype=torch.int32)
    times = torch.zeros(1, MODEL.max_events, dtype=torch.int64)
    with torch.no_grad():
        told = served(empty, times, torch.tensor([[1_700_000_000]]))
    assert told.next_actions.sum().item() == pytest.approx(1.0)
    for each in (
        told.next_actions,
        told.purchases,
        told.visit_purchase,
    ):
        assert bool(((each > 0) & (each < 1)).all())
    assert told.behavior_embedding.norm().item() == pytest.approx(1.0)


def test_a_network_as_it_starts_leans_to_the_product_seen_last() -> None:
    network = make_network(random=False, d_model=32)
    sampler = make_sampler()
    tokens = torch.tensor(content())
    events = torch.cat([torch.full((10, 1), 2), tokens], dim=1).unsqueeze(1)
    one = torch.ones(10, 1, dtype=torch.int64)
    wanted = network.observe(events, one, one, one)[1].squeeze(1)
    products = network.products(sampler.tokens, torch.zeros_like(sampler.text_embeddings))
    scores = wanted @ products.T
    assert bool((scores.diagonal() > scores.median(dim=1).values).all())


def test_the_embedding_of_none_stays_zero_in_training() -> None:
    network, batch = learning()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    losses = batch_losses(network, make_sampler(), batch)
    losses.total(TINY).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    for field in network.products.fields:
        weight = field.weight
        assert isinstance(weight, Tensor)
        assert bool((weight[0] == 0).all())
        assert bool((weight[1:] != 0).any())


def learning() -> tuple[IntentNetwork, Batch]:
    """Returns a network in training mode that drops nothing, and one batch."""
    sequences = sequences_of(random_shoppers(12, seed=1, longest=8))
    span = between(sequences, 0, 10**9)
    windows = cut_windows(sequences, span, 16)
    (batch,) = Batches(sequences, windows, span, 1800, batch_events=256).in_order()
    return make_network(random=False, dropout=0.0, id_dropout=0.0, d_model=32).train(), batch


def test_it_learns_one_batch_by_heart() -> None:
    network, batch = learning()
    sampler = make_sampler()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    history = []
    for _ in range(120):
        losses = batch_losses(network, sampler, batch)
        optimizer.zero_grad()
        losses.total(TINY).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append([loss.item() for loss in losses])
    # What comes first in a behavior cannot be told apart, so neither loss can reach zero.
    for first, last in zip(history[0], history[-1], strict=True):
        assert last < 0.35 * first
