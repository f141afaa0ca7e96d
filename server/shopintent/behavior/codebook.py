"""Residual quantization: a text embedding as three small integers, most telling first.

Each level codes what the levels before left over (Chen et al. 2010, "Approximate Nearest Neighbor
Search by Residual Vector Quantization"), so texts alike share leading codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 3


@dataclass(frozen=True, eq=False)
class ContentCodebook:
    """The centroids of every level."""

    centroids: NDArray[np.float32]
    """[LEVELS, K, E]; the embeddings coded have E dimensions."""

    @property
    def size(self) -> int:
        """How many code ids there are a level, 0 for "no text" included."""
        return int(self.centroids.shape[1]) + 1

    @property
    def embedding_size(self) -> int:
        """E, the dimensions of the text embeddings it codes."""
        return int(self.centroids.shape[2])

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.int32]:
        """Returns [N, LEVELS] codes of [N, E] embeddings: 1 to K, 0 for an embedding of zeros."""
        residual = embeddings.astype(np.float32)
        codes = np.zeros((len(embeddings), LEVELS), dtype=np.int32)
        for level, centroids in enumerate(self.centroids):
            # argmin |x - c|^2 needs no |x|^2.
            distances = (centroids**2).sum(axis=1) - 2.0 * residual @ centroids.T  # [N, K]
            nearest = distances.argmin(axis=1)
            codes[:, level] = nearest + 1
            residual = residual - centroids[nearest]
        codes[~embeddings.any(axis=1)] = 0
        return codes
