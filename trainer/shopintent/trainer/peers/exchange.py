"""What goes between the processes: sequences of products, what to fit, and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Histories:
    """Products in the order they were met; history i owns products[offsets[i] : offsets[i + 1]]."""

    products: NDArray[np.int32]
    """[N], rows of the catalog"""
    offsets: NDArray[np.int64]
    """[histories + 1]"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def padded(self, length: int) -> NDArray[np.int64]:
        """Returns [histories, length]: the last products, counted from 1, behind zeros."""
        sizes = np.diff(self.offsets)
        back = np.arange(length, 0, -1)  # 1 is the last product
        rows = self.offsets[1:, None] - back
        known = back <= sizes[:, None]
        out: NDArray[np.int64] = np.where(known, self.products[np.where(known, rows, 0)] + 1, 0)
        return out


@dataclass(frozen=True, eq=False)
class Task:
    """What to learn from, and what tells how good it is."""

    n_products: int
    """Products of the catalog, known to training or not."""
    training: Histories
    """Every product but the first of a history is learned from."""
    validation: Histories
    """What is known when each of `validation_targets` is to be foretold."""
    validation_targets: NDArray[np.int32]
    """[V], rows of the catalog"""
    seen_filter: bool
    """Whether products of the history are kept out of the ranking."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Products and histories in one space, where the dot product is the score."""

    products: NDArray[np.float32]
    """[P, D]"""
    known: NDArray[np.bool_]
    """[P], whether training knows the product; the embedding of another means nothing."""
    queries: NDArray[np.float32]
    """[histories, D]"""

    def scores(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns [rows, P]; products unknown to training are at the very end."""
        scores: NDArray[np.float32] = self.queries[rows] @ self.products.T
        scores[:, ~self.known] = -np.inf
        return scores


@dataclass(frozen=True)
class EngineConfig:
    """What all trainers have in common, whatever they call it."""

    seed: int = 7
    n_threads: int = 2
    width: int = 64
    n_blocks: int = 2
    n_heads: int = 1
    dropout: float = 0.3
    max_length: int = 50
    """Products of a history that are read, its last."""
    learning_rate: float = 1e-3
    batch_targets: int = 768
    """Products to foretell in a batch, about."""
    precision: str = "float32"
    """Of matrix products; "bfloat16" by the means that the trainer itself offers, "auto" (ours
    only) for what is fast here."""


def save_task(path: Path, task: Task) -> None:
    """Writes what to learn from."""
    np.savez(
        path,
        n_products=np.int64(task.n_products),
        training=task.training.products,
        training_offsets=task.training.offsets,
        validation=task.validation.products,
        validation_offsets=task.validation.offsets,
        validation_targets=task.validation_targets,
        seen_filter=np.bool_(task.seen_filter),
    )


def load_task(path: Path) -> Task:
    """Reads what `save_task` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Task(
            n_products=int(file["n_products"]),
            training=Histories(file["training"], file["training_offsets"]),
            validation=Histories(file["validation"], file["validation_offsets"]),
            validation_targets=file["validation_targets"],
            seen_filter=bool(file["seen_filter"]),
        )


def save_histories(path: Path, histories: Histories) -> None:
    """Writes histories alone."""
    np.savez(path, products=histories.products, offsets=histories.offsets)


def load_histories(path: Path) -> Histories:
    """Reads what `save_histories` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Histories(file["products"], file["offsets"])


def save_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Writes embeddings."""
    np.savez(
        path,
        products=embeddings.products,
        known=embeddings.known,
        queries=embeddings.queries,
    )


def load_embeddings(path: Path) -> Embeddings:
    """Reads what `save_embeddings` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Embeddings(file["products"], file["known"], file["queries"])
