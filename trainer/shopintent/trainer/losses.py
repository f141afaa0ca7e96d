"""What gradient descent minimizes: the loss of the next action and of the next product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def action_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of [N, A] logits; labels [N] of -1 do not count."""
    known = labels >= 0
    return F.cross_entropy(logits[known], labels[known]) if known.any() else logits.sum() * 0.0


def product_loss(scores: Tensor, targets: Tensor, log_inclusion: Tensor) -> Tensor:
    """Softmax cross entropy of [N, C] scores over C candidates, `targets` [N] being their columns.

    `log_inclusion` [C] is the log of each candidate's chance to be among the candidates: sampled
    softmax with logQ correction (Bengio and Senecal 2008; Yi et al. 2019). Zeros for a full
    softmax.
    """
    return F.cross_entropy(scores - log_inclusion, targets) if len(targets) else scores.sum() * 0.0


def log_inclusion(shares: Tensor, n_targets: int, n_negatives: int, n_products: int) -> Tensor:
    """Returns the log chance [C] of products to be drawn as a target or as a uniform negative.

    `shares` [C] is how large a share of all targets each product is.
    """
    missed = (1 - shares).clamp(min=1e-9) ** n_targets * (1 - 1 / n_products) ** n_negatives
    return torch.log((1 - missed).clamp(min=1e-9))
