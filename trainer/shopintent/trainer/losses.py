"""What training minimizes: next action, purchase within each horizon, next product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def action_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of [N, A] logits; labels [N] of -1 do not count."""
    known = labels >= 0
    return F.cross_entropy(logits[known], labels[known]) if known.any() else logits.sum() * 0.0


def purchase_loss(logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Mean binary cross entropy of [N, H] logits where the label is known.

    No class weights: they would buy no ranking and spoil the probability.
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def product_loss(scores: Tensor, targets: Tensor, log_inclusion: Tensor) -> Tensor:
    """Softmax cross entropy of [N, C] scores over C candidates, `targets` [N] being their columns.

    `log_inclusion` [C] is the log of each candidate's chance to be among the candidates: sampled
    softmax with logQ correction (Bengio and Senecal 2008; Yi et al. 2019). Zeros for a full
    softmax.
    """
    return F.cross_entropy(scores - log_inclusion, targets)


def log_inclusion(shares: Tensor, n_targets: int, n_negatives: int, n_products: int) -> Tensor:
    """Returns the log chance [C] of products to be drawn as a target or as a uniform negative.

    `shares` [C] is how large a share of all targets each product is.
    """
    missed = (1 - shares).clamp(min=1e-9) ** n_targets * (1 - 1 / n_products) ** n_negatives
    return torch.log((1 - missed).clamp(min=1e-9))
