"""The products a next product is told from: the targets among them, and how likely each was."""

from __future__ import annotations

import pytest
import torch

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.losses import log_inclusion, product_loss
from support.learning import N_PRODUCTS, make_sampler

TARGETS = torch.tensor([FIRST + 3, FIRST, FIRST + 3, FIRST + 9])


@pytest.mark.parametrize("full", [True, False])
def test_targets_point_at_their_own_products(full: bool) -> None:
    sampler = make_sampler(full_softmax_up_to=N_PRODUCTS if full else 0)
    candidates = sampler.draw(TARGETS)
    assert candidates.tokens[candidates.targets, 0].tolist() == TARGETS.tolist()
    own = sampler.text_embeddings[TARGETS - FIRST]
    assert torch.equal(candidates.text_embeddings[candidates.targets], own)


def test_a_small_catalog_is_ranked_whole_and_uncorrected() -> None:
    candidates = make_sampler(full_softmax_up_to=N_PRODUCTS).draw(TARGETS)
    assert candidates.tokens[:, 0].tolist() == list(range(FIRST, FIRST + N_PRODUCTS))
    assert not candidates.log_inclusion.any()


def test_a_large_catalog_is_sampled_without_repeats() -> None:
    torch.manual_seed(0)
    sampler = make_sampler(full_softmax_up_to=N_PRODUCTS - 1, n_negatives=5)
    drawn = [sampler.draw(TARGETS) for _ in range(30)]
    for candidates in drawn:
        ids = candidates.tokens[:, 0].tolist()
        assert len(ids) == len(set(ids)) <= 3 + 5
        assert set(TARGETS.tolist()) <= set(ids)
        assert bool((candidates.log_inclusion < 0).all())
    assert len({tuple(each.tokens[:, 0].tolist()) for each in drawn}) > 10


def test_log_inclusion_is_the_chance_to_be_among_the_candidates() -> None:
    torch.manual_seed(1)
    shares = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    n_targets, n_negatives, n_draws = 3, 2, 20_000
    targets = torch.multinomial(shares, n_draws * n_targets, replacement=True)
    uniform = torch.randint(len(shares), (n_draws, n_negatives))
    drawn = torch.cat([targets.view(n_draws, n_targets), uniform], dim=1)
    seen = torch.stack([(drawn == each).any(1).float().mean() for each in range(len(shares))])
    expected = log_inclusion(shares, n_targets, n_negatives, len(shares)).exp()
    assert torch.allclose(seen, expected, atol=0.015)


def test_a_product_in_every_target_is_surely_included() -> None:
    assert float(log_inclusion(torch.tensor([1.0]), 100, 0, 1)) == pytest.approx(0.0, abs=1e-6)


def mean_gradient(sampler: CandidateSampler, scores: torch.Tensor, *, corrected: bool) -> float:
    """Returns how long the mean gradient of the scores [P] is, over many draws of targets."""
    torch.manual_seed(2)
    scores = scores.clone().requires_grad_()
    n_draws, n_targets = 1_500, 4
    for _ in range(n_draws):
        targets = torch.multinomial(sampler.shares, n_targets, replacement=True) + FIRST
        candidates = sampler.draw(targets)
        rows = candidates.tokens[:, 0].long() - FIRST
        correction = candidates.log_inclusion if corrected else torch.zeros(len(rows))
        ones = torch.ones(n_targets, 1)
        loss = product_loss(ones, scores[rows, None], candidates.targets, correction)
        loss.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    return float(scores.grad.norm()) / n_draws


def test_sampled_softmax_rests_where_full_softmax_rests() -> None:
    """The log of the shares is the minimum of both; without the correction it is not."""
    shares = torch.linspace(1, 10, N_PRODUCTS) ** 2
    shares = shares / shares.sum()
    small = make_sampler()
    full, sampled = (
        CandidateSampler(small.tokens, small.text_embeddings, shares, 2, full_softmax_up_to=limit)
        for limit in (N_PRODUCTS, 0)
    )
    assert mean_gradient(full, shares.log(), corrected=True) < 0.02
    assert mean_gradient(sampled, shares.log(), corrected=True) < 0.02
    assert mean_gradient(sampled, shares.log(), corrected=False) > 0.05
