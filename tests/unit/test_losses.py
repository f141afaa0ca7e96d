"""The losses: what counts, and what happens when nothing does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from shopintent.trainer.learn import Losses
from shopintent.trainer.losses import action_loss, product_loss
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
    scores = torch.randn(0, 5, requires_grad=True)
    loss = product_loss(scores, torch.zeros(0, dtype=torch.int64), torch.zeros(5))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0


def test_a_full_softmax_is_plain_cross_entropy() -> None:
    torch.manual_seed(0)
    scores, targets = torch.randn(3, 5), torch.tensor([4, 0, 2])
    expected = F.cross_entropy(scores, targets)
    assert float(product_loss(scores, targets, torch.zeros(5))) == pytest.approx(float(expected))


def test_the_total_weighs_each_loss() -> None:
    losses = Losses(action=torch.tensor(2.0), product=torch.tensor(3.0))
    assert float(losses.total(TINY)) == pytest.approx(
        2.0 * TINY.action_loss_weight + 3.0 * TINY.product_loss_weight
    )
