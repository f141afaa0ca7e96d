"""What gradient descent minimizes: the loss of the next action and of the next product."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 512
"""Targets scored at once: their scores over tens of thousands of products stay near the cache."""


def action_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of [N, A] logits; labels [N] of -1 do not count."""
    known = labels >= 0
    return F.cross_entropy(logits[known], labels[known]) if known.any() else logits.sum() * 0.0


def product_loss(
    queries: Tensor,
    products: Tensor,
    targets: Tensor,
    log_inclusion: Tensor,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Softmax cross entropy of [N, D] queries over [C, D] products; `targets` [N] are rows of them.

    `log_inclusion` [C] is the log of each candidate's chance to be among the candidates: sampled
    softmax with logQ correction (Bengio and Senecal 2008; Yi et al. 2019). Zeros for a full
    softmax. `precision` is that of the products of matrices; sums are always float32.
    """
    if not len(targets):
        return queries.sum() * 0.0
    loss: Tensor = FusedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        queries, products, targets, log_inclusion, precision
    )
    return loss


class FusedCrossEntropy(torch.autograd.Function):
    """Mean cross entropy of `queries @ products.T`, whose [N, C] logits are never held at once.

    The gradient is worked out chunk by chunk along with the loss, as in Liger's fused linear cross
    entropy (Hsu et al. 2024, https://arxiv.org/abs/2410.10989).
    """

    @staticmethod
    def forward(
        context: Any,
        queries: Tensor,  # [N, D]
        products: Tensor,  # [C, D]
        targets: Tensor,  # [N]
        log_inclusion: Tensor,  # [C]
        precision: torch.dtype,
    ) -> Tensor:
        """Returns the loss and keeps the gradients of queries and products."""
        q, p = queries.to(precision), products.to(precision)
        queries_grad = torch.empty_like(queries, dtype=torch.float32)
        products_grad = torch.zeros_like(products, dtype=torch.float32)
        loss = torch.zeros((), device=queries.device)
        for start in range(0, len(q), CHUNK):
            rows = slice(start, start + CHUNK)
            scores = (q[rows] @ p.T).float().sub_(log_inclusion)
            own = targets[rows, None]
            # Scores become their softmax in their place, less one at the target: their gradient.
            scores -= scores.amax(1, keepdim=True)
            wanted = scores.gather(1, own)
            total = scores.exp_().sum(1, keepdim=True)
            loss += (total.log() - wanted).sum()
            grad = scores.div_(total)
            grad.scatter_add_(1, own, torch.full_like(own, -1, dtype=grad.dtype))
            grad = grad.to(precision)
            queries_grad[rows] = grad @ p
            products_grad += grad.T @ q[rows]
        context.save_for_backward(queries_grad / len(q), products_grad / len(q))
        return loss / len(q)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Returns the gradients that `forward` worked out."""
        queries_grad, products_grad = context.saved_tensors
        return queries_grad * grad, products_grad * grad, None, None, None


def log_inclusion(shares: Tensor, n_targets: int, n_negatives: int, n_products: int) -> Tensor:
    """Returns the log chance [C] of products to be drawn as a target or as a uniform negative.

    `shares` [C] is how large a share of all targets each product is.
    """
    missed = (1 - shares).clamp(min=1e-9) ** n_targets * (1 - 1 / n_products) ** n_negatives
    return torch.log((1 - missed).clamp(min=1e-9))
