"""All boosted trees of a release as one operator of ONNX, which walks them.

The dense form of trees.py compares every node and is made for a few matrix products; ONNX Runtime
has an operator for trees that looks at one node a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from shopintent.trainer.trees import Trees


@dataclass(frozen=True)
class Grown:
    """Trees that add to one output."""

    trees: Trees
    output: int
    weight: float


class LeanTrees(nn.Module):
    """Features [B, X] to [B, outputs]: sums of what trees say of each; 0 where there are none."""

    def __init__(self, grown: Sequence[Grown], n_outputs: int) -> None:
        super().__init__()
        self.n_outputs = n_outputs
        self.listed = _Attributes()
        for each in grown:
            for tree in range(len(each.trees.values)):
                self.listed.add(each, tree)

    def forward(self, features: Tensor) -> Tensor:
        """[B, X] to [B, outputs]; only what is exported says anything."""
        if not self.listed.nodes_treeids:
            return torch.zeros(self.n_outputs)
        attributes = {
            **self.listed.__dict__,
            "n_targets": self.n_outputs,
            "aggregate_function": "SUM",
            "post_transform": "NONE",
        }
        said: Tensor = torch.onnx.ops.symbolic(
            "ai.onnx.ml::TreeEnsembleRegressor",
            (features,),
            attributes,
            dtype=torch.float32,
            shape=(features.shape[0], self.n_outputs),
            version=3,
        )
        return said


@dataclass
class _Attributes:
    """The lists that the operator takes; one entry a node, and one a leaf."""

    nodes_treeids: list[int] = field(default_factory=list)
    nodes_nodeids: list[int] = field(default_factory=list)
    nodes_featureids: list[int] = field(default_factory=list)
    nodes_values: list[float] = field(default_factory=list)
    nodes_modes: list[str] = field(default_factory=list)
    nodes_truenodeids: list[int] = field(default_factory=list)
    nodes_falsenodeids: list[int] = field(default_factory=list)
    target_treeids: list[int] = field(default_factory=list)
    target_nodeids: list[int] = field(default_factory=list)
    target_ids: list[int] = field(default_factory=list)
    target_weights: list[float] = field(default_factory=list)

    def add(self, grown: Grown, tree: int) -> None:
        """Adds one tree: inner nodes are numbered from the root on, left before right."""
        trees = grown.trees
        number = self.nodes_treeids[-1] + 1 if self.nodes_treeids else 0
        paths, first = trees.paths[tree], len(self.nodes_nodeids)
        n_inner = 0

        def node(feature: int, threshold: float, mode: str) -> int:
            self.nodes_treeids.append(number)
            self.nodes_nodeids.append(len(self.nodes_nodeids) - first)
            self.nodes_featureids.append(feature)
            self.nodes_values.append(threshold)
            self.nodes_modes.append(mode)
            self.nodes_truenodeids.append(0)
            self.nodes_falsenodeids.append(0)
            return self.nodes_nodeids[-1]

        def grow(leaves: list[int]) -> int:
            nonlocal n_inner
            if len(leaves) == 1:
                at = node(0, 0.0, "LEAF")
                self.target_treeids.append(number)
                self.target_nodeids.append(at)
                self.target_ids.append(grown.output)
                self.target_weights.append(grown.weight * float(trees.values[tree, leaves[0]]))
                return at
            inner, n_inner = n_inner, n_inner + 1
            threshold = float(trees.thresholds[tree, inner])
            at = node(int(trees.features[tree, inner]), threshold, "BRANCH_LEQ")
            turns = paths[inner].tolist()
            self.nodes_truenodeids[first + at] = grow([leaf for leaf in leaves if turns[leaf] > 0])
            self.nodes_falsenodeids[first + at] = grow([leaf for leaf in leaves if turns[leaf] < 0])
            return at

        grow([leaf for leaf, lefts in enumerate(trees.lefts[tree].tolist()) if lefts >= 0])
