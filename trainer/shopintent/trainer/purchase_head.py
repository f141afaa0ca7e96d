"""The purchase head: `p = sigmoid(W^T [H b + X A] + w trees(X))`, fitted to the frozen network.

H is the state and X the structured features, as normal scores where they meet W. Its parts are
fitted and weighed by stack.py: gradient descent through the network learns the shoppers of a small
log by heart instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shopintent.trainer.prefixes import Prefixes
from shopintent.trainer.stack import Requests, fit_stack
from shopintent.trainer.trees import Trees, load_trees


class PurchaseHead(nn.Module):
    """What is known of B requests to purchase probabilities [B, C].

    The first column is a purchase later in this visit, the others are the horizons.
    """

    weight: Tensor  # [C, D + X]: b and A, multiplied by W
    bias: Tensor  # [C]
    tree_weight: Tensor  # [C]

    def __init__(self, n_inputs: int, n_columns: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_columns, n_inputs))
        self.register_buffer("bias", torch.zeros(n_columns))
        self.register_buffer("tree_weight", torch.zeros(n_columns))
        self.trees = nn.ModuleList(Trees() for _ in range(n_columns))

    def forward(self, readable: Tensor, features: Tensor) -> Tensor:
        """[B, D + X], state and normal scores, and features [B, X] to [B, C]."""
        linear = readable @ self.weight.T + self.bias
        grown = torch.stack([trees(features) for trees in self.trees], dim=1)
        return torch.sigmoid(linear + grown * self.tree_weight)


@dataclass(frozen=True, eq=False)
class PurchaseRequests:
    """What the head sees at N requests, and what came of them."""

    readable: NDArray[np.float32]  # [N, D + X], state and normal scores of structured features
    features: NDArray[np.float32]  # [N, X], structured features
    bought: NDArray[np.bool_]  # [N, C]
    known: NDArray[np.bool_]  # [N, C]
    shoppers: NDArray[np.int64]  # [N]
    request_times: NDArray[np.int64]  # [N]
    undecided: NDArray[np.bool_]  # [N], whether the visit goes on and holds no purchase yet
    fresh_from: int = 0
    """Unix seconds; the network that made the state was fitted to what happened before."""

    @classmethod
    def of(
        cls,
        prefixes: Prefixes,
        readable: NDArray[np.float32],
        features: NDArray[np.float32],
        fresh_from: int,
    ) -> PurchaseRequests:
        """Returns the requests after prefixes."""
        return cls(
            readable,
            features,
            prefixes.purchase_labels,
            prefixes.purchase_known,
            prefixes.shoppers,
            prefixes.request_times,
            prefixes.undecided,
            fresh_from,
        )

    def of_column(self, column: int) -> Requests:
        """Returns the requests whose label in one column is known."""
        known = self.known[:, column]
        return Requests(
            self.readable[known],
            self.features[known],
            self.bought[known, column],
            self.shoppers[known],
            self.request_times[known],
            self.undecided[known],
            self.fresh_from,
        )


def fit_purchase_head(head: PurchaseHead, requests: PurchaseRequests) -> None:
    """Sets every column's weights and trees from its own known labels."""
    for column, trees in enumerate(head.trees):
        assert isinstance(trees, Trees)
        stack = fit_stack(requests.of_column(column))
        head.weight[column] = torch.as_tensor(stack.linear.weights)
        head.bias[column] = stack.linear.bias
        head.tree_weight[column] = stack.tree_weight
        if stack.booster is not None:
            load_trees(trees, stack.booster, stack.n_trees)
