"""The losses: what counts, and what happens when nothing does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from shopintent.trainer.learn import Losses
from shopintent.trainer.losses import CHUNK, action_loss, product_loss
from support.learning import TINY


def test_unknown_actions_do_not_count() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 3)
    labels = torch.tensor([2, -1, 0, -1])
    expected = F.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    assert float(action_loss(logits, labels)) == pytest.approx(float(expected))


def test_a_batch_without_known_actions_teaches_nothing() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = action_loss(logits, torch.tensor([-1, -1]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_batch_without_next_products_teaches_nothing() -> None:
    queries = torch.randn(0, 5, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = product_loss(queries, torch.randn(4, 5), none, torch.zeros(4))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0


def test_the_fused_loss_and_its_gradients_are_those_of_plain_cross_entropy() -> None:
    """Over several chunks, with the correction of a sampled softmax."""
    torch.manual_seed(0)
    n, size = 2 * CHUNK + 17, 23
    queries = torch.randn(n, 6, requires_grad=True)
    products = torch.randn(size, 6, requires_grad=True)
    targets, correction = torch.randint(size, (n,)), torch.randn(size)
    plain = F.cross_entropy(queries @ products.T - correction, targets)
    fused = product_loss(queries, products, targets, correction)
    assert fused.item() == pytest.approx(plain.item(), rel=1e-5)
    expected = torch.autograd.grad(plain * 3, (queries, products))
    found = torch.autograd.grad(fused * 3, (queries, products))
    for mine, other in zip(found, expected, strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


def test_the_total_weighs_each_loss() -> None:
    losses = Losses(action=torch.tensor(2.0), product=torch.tensor(3.0))
    assert float(losses.total(TINY)) == pytest.approx(
        2.0 * TINY.action_loss_weight + 3.0 * TINY.product_loss_weight
    )
