"""The heads for serving: one product of matrices and one walk through all trees, for all answers.

B requests, D width of the state, X structured and O order features, L lines, A actions, H horizons,
R rows of weights: 1 + H for purchases, 2 for expectations, A for actions
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from shopintent.trainer.expectation_head import ExpectationHead
from shopintent.trainer.heads import HeadAnswers, IntentHeads, rising
from shopintent.trainer.quantiles import Quantiles
from shopintent.trainer.served.trees import Grown, LeanTrees
from shopintent.trainer.trees import Trees


class LeanHeads(nn.Module):
    """State [B, D] and features [B, X + O] to answers, as `IntentHeads` gives them.

    Normal scores are straight lines between knots, and all that reads them is linear: each line is
    multiplied by the weights of its feature beforehand, and lines that rise nowhere are left out.
    """

    weights: Tensor
    bias: Tensor
    knots: Tensor
    widths: Tensor
    read_by: Tensor
    log_ranges: Tensor

    @torch.no_grad()
    def __init__(self, heads: IntentHeads) -> None:
        super().__init__()
        self.n_purchases = len(heads.purchase.bias)
        expectations = [heads.time, heads.quantity]
        width, n_features = heads.config.d_model, len(heads.quantiles.lowest)
        read = torch.cat([heads.purchase.weight, heads.action.weight])  # [R - 2, D + X]
        risen, lines, knots, widths = rising_lines(heads.quantiles)
        n_all = width + heads.time.weight.shape[0] - width + len(lines)
        weights = torch.zeros(len(read) + 2, n_all)
        rows = [*range(self.n_purchases), *range(self.n_purchases + 2, len(weights))]
        weights[rows, :width] = read[:, :width]
        weights[rows, n_all - len(lines) :] = read[:, width:][:, lines] * risen
        bias = torch.zeros(len(weights))
        level = read[:, width : width + n_features] @ heads.quantiles.lowest
        bias[rows] = torch.cat([heads.purchase.bias, heads.action.bias]) + level
        for row, head in enumerate(expectations, start=self.n_purchases):
            weights[row, : len(head.weight)] = head.weight
            bias[row] = head.bias
        self.register_buffer("weights", weights.T.contiguous())
        self.register_buffer("bias", bias)
        self.register_buffer("knots", knots.unsqueeze(1))
        self.register_buffer("widths", widths.unsqueeze(1))
        self.register_buffer("read_by", lines)
        self.register_buffer("log_ranges", torch.stack([head.log_range for head in expectations]))
        self.trees = LeanTrees(all_trees(heads, expectations), len(weights))

    def forward(self, state: Tensor, features: Tensor) -> HeadAnswers:
        """Returns the answers."""
        # Rows of the transposed features are copied whole, which is far faster than columns.
        column = features.transpose(0, 1)
        along = (column.index_select(0, self.read_by) - self.knots) / self.widths
        known = torch.cat([state.transpose(0, 1), column, along.clamp(0.0, 1.0)])
        linear = known.transpose(0, 1) @ self.weights + self.bias
        said = linear + self.trees(features)
        first, last = self.n_purchases, self.n_purchases + 2
        purchases = said[:, :first].sigmoid()
        low, high = self.log_ranges.unbind(1)
        expected = torch.minimum(torch.maximum(said[:, first:last], low), high).exp()
        return HeadAnswers(
            next_actions=said[:, last:].softmax(-1),
            visit_purchase=purchases[:, :1],
            purchases=rising(purchases[:, 1:]),
            time_to_purchase_s=expected[:, :1],
            quantity=expected[:, 1:],
        )


def rising_lines(quantiles: Quantiles) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns by how much L lines rise, whose features they are, their knots and their widths."""
    feature, line = (quantiles.steps != 0).nonzero(as_tuple=True)
    each = (feature, line)
    return quantiles.steps[each], feature, quantiles.knots[each], quantiles.widths[each]


def all_trees(heads: IntentHeads, expectations: list[ExpectationHead]) -> list[Grown]:
    """Returns the trees of all heads with the row that each adds to."""
    purchases = [
        Grown(cast(Trees, trees), row, float(heads.purchase.tree_weight[row]))
        for row, trees in enumerate(heads.purchase.trees)
    ]
    first = len(purchases)
    return purchases + [
        Grown(head.trees, row, 1.0) for row, head in enumerate(expectations, start=first)
    ]
