"""Boosted trees of LightGBM as a few tensor operations, so that they are served from the graph.

A tree is two products: every comparison of all its nodes at once, and a table that tells which
comparisons lead to which leaf (Nakandala et al. 2020, https://arxiv.org/abs/2010.04804).
"""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LEARNING_RATE = 0.05
DECIMALS = 3
"""Runtimes round logarithms and sines differently; no threshold may lie between two numbers that
are equal but for that, so trees grow on rounded ones."""
SEED = 7


class Trees(nn.Module):
    """Features [B, X] to the sum of what T trees say [B]; none say 0.

    I inner nodes and L leaves a tree, where smaller trees are padded.
    """

    features: Tensor  # [T, I] int64, the feature that each node looks at
    thresholds: Tensor  # [T, I], where values up to it go left
    paths: Tensor  # [T, I, L], 1 where a leaf is left of a node, -1 where right, 0 elsewhere
    lefts: Tensor  # [T, L], how often the path to a leaf turns left; -1 for padding
    values: Tensor  # [T, L]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(0, 1, dtype=torch.int64))
        self.register_buffer("thresholds", torch.zeros(0, 1))
        self.register_buffer("paths", torch.zeros(0, 1, 1))
        self.register_buffer("lefts", torch.zeros(0, 1))
        self.register_buffer("values", torch.zeros(0, 1))

    def forward(self, features: Tensor) -> Tensor:
        """[B, X] to [B]."""
        n_trees, n_nodes = self.features.shape
        if n_trees == 0:
            return torch.zeros_like(features[:, 0])
        looked_at = features[:, self.features.flatten()].view(-1, n_trees, n_nodes)
        left = (looked_at <= self.thresholds).float()  # [B, T, I]
        turns = (left.unsqueeze(2) @ self.paths).squeeze(2)  # [B, T, L]
        reached = (turns == self.lefts).float()  # one leaf a tree
        said: Tensor = (reached * self.values).sum((1, 2))
        return said


def grow(
    features: NDArray[np.float32],
    labels: NDArray[np.bool_] | NDArray[np.float64],
    *,
    n_trees: int,
    n_leaves: int,
    leaf_share: float,
    objective: str = "binary",
    offsets: NDArray[np.float64] | None = None,
) -> lightgbm.Booster:
    """Returns trees fitted to [N, X] features; a leaf holds at least this share of the rows.

    `offsets` [N] are raw scores that the trees are to mend: what they say is to be added.
    """
    settings = {
        "objective": objective,
        "learning_rate": LEARNING_RATE,
        "num_leaves": n_leaves,
        "min_data_in_leaf": max(20, int(leaf_share * len(labels))),
        "lambda_l2": 10.0,
        "feature_fraction": 0.4,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "seed": SEED,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    table = lightgbm.Dataset(
        features.round(DECIMALS), labels.astype(np.float32), init_score=offsets
    )
    return lightgbm.train(settings, table, num_boost_round=n_trees)


def load_trees(trees: Trees, booster: lightgbm.Booster, n_trees: int) -> None:
    """Sets the trees to the first `n_trees` of a booster: the same raw scores, without NaN."""
    listed = [_Listed(each["tree_structure"]) for each in booster.dump_model(n_trees)["tree_info"]]
    n_nodes = max(1, *(len(tree.features) for tree in listed))
    n_leaves = max(len(tree.values) for tree in listed)
    size = len(listed)
    trees.features = torch.zeros(size, n_nodes, dtype=torch.int64)
    trees.thresholds = torch.zeros(size, n_nodes)
    trees.paths = torch.zeros(size, n_nodes, n_leaves)
    trees.lefts = torch.full((size, n_leaves), -1.0)
    trees.values = torch.zeros(size, n_leaves)
    for row, tree in enumerate(listed):
        trees.features[row, : len(tree.features)] = torch.tensor(tree.features, dtype=torch.int64)
        trees.thresholds[row, : len(tree.features)] = torch.tensor(tree.thresholds)
        for leaf, (value, path) in enumerate(zip(tree.values, tree.paths, strict=True)):
            trees.values[row, leaf] = value
            trees.lefts[row, leaf] = sum(turn > 0 for turn in path.values())
            for node, turn in path.items():
                trees.paths[row, node, leaf] = turn


class _Listed:
    """One tree of LightGBM's dump as lists: its inner nodes, and its leaves with their paths."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.features: list[int] = []
        self.thresholds: list[float] = []
        self.values: list[float] = []
        self.paths: list[dict[int, float]] = []
        self._add(root, {})

    def _add(self, node: dict[str, Any], path: dict[int, float]) -> None:
        if "leaf_value" in node:
            self.values.append(node["leaf_value"])
            self.paths.append(path)
            return
        number = len(self.features)
        self.features.append(node["split_feature"])
        self.thresholds.append(rounded_down(node["threshold"]))
        self._add(node["left_child"], path | {number: 1.0})
        self._add(node["right_child"], path | {number: -1.0})


def rounded_down(threshold: float) -> float:
    """Returns the largest FP32 number up to a threshold: FP32 values compare alike with both."""
    near = np.float32(threshold)
    down = np.nextafter(near, np.float32(-np.inf), dtype=np.float32)
    return float(near) if float(near) <= threshold else float(down)
