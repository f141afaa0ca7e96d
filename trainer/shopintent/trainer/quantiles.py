"""Numbers of any scale to where they lie among those of training, inside the exported graph."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor, nn

N_KNOTS = 65
RESOLUTION = 2e-3
"""How near two knots may be, as a share of the whole range. Runtimes round their logarithms
differently; a steep line between two numbers that are all but equal would blow that up."""
TAIL = 0.005
"""Quantiles below it and above one minus it are alike, so that no outlier counts much."""


class Quantiles(nn.Module):
    """Each of X features to its normal score: a straight line between every two knots."""

    knots: Tensor  # [X, K]
    widths: Tensor  # [X, K], to the next knot
    steps: Tensor  # [X, K], by how much the score rises up to the next knot
    lowest: Tensor  # [X], the score of the first knot and of all below

    def __init__(self, n_features: int) -> None:
        super().__init__()
        for name, value in (("knots", 0.0), ("widths", 1.0), ("steps", 0.0)):
            self.register_buffer(name, torch.full((n_features, N_KNOTS - 1), value))
        self.register_buffer("lowest", torch.zeros(n_features))

    def forward(self, features: Tensor) -> Tensor:
        """[B, X] to [B, X]."""
        along = ((features.unsqueeze(-1) - self.knots) / self.widths).clamp(0.0, 1.0)
        scores: Tensor = self.lowest + (along * self.steps).sum(-1)
        return scores


def fit_quantiles(quantiles: Quantiles, features: NDArray[np.float32]) -> None:
    """Sets knots and scores from [N, X] features; one that never varies is always 0."""
    for column, values in enumerate(features.T):
        ordered = np.sort(rounded(values))
        knots = np.unique(np.quantile(ordered, np.linspace(0, 1, N_KNOTS), method="nearest"))
        # Equal values share the middle of their ranks.
        below, above = (np.searchsorted(ordered, knots, side=side) for side in ("left", "right"))
        ranks = (below + above) / (2 * len(ordered))
        scores = norm.ppf(ranks.clip(TAIL, 1 - TAIL))
        n_lines = len(knots) - 1
        quantiles.lowest[column] = float(scores[0]) if n_lines else 0.0
        quantiles.knots[column, :n_lines] = torch.tensor(knots[:-1])
        quantiles.widths[column, :n_lines] = torch.tensor(np.diff(knots))
        quantiles.steps[column, :n_lines] = torch.tensor(np.diff(scores)).float()
        quantiles.steps[column, n_lines:] = 0.0
        quantiles.widths[column, n_lines:] = 1.0


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns [N] values with nothing between them that is smaller than the resolution."""
    step = float(np.ptp(values)) * RESOLUTION
    if step < 1e-6:
        return np.full_like(values, values[0])
    near: NDArray[np.float32] = (np.round(values / step) * step).astype(np.float32)
    return near
