"""A trainer as the worker drives it: it trains until told to stop, and embeds at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from shopintent.trainer.peers.exchange import Embeddings, EngineConfig, Histories, Task

ROWS_AT_ONCE = 512
TOP = 10


@dataclass(frozen=True)
class Step:
    """One batch that was learned from."""

    n_targets: int
    """Products that were foretold."""
    last_of_epoch: bool


class Engine(Protocol):
    """A trainer, before or in its training."""

    @property
    def versions(self) -> Sequence[str]:
        """Name and version of what does the work."""

    def train(self, goes_on: Callable[[Step], bool]) -> None:
        """Trains, asking after every batch whether to go on."""

    def validate(self) -> float:
        """Returns NDCG@10 of the task's validation as of now; safe to call from `goes_on`."""


@runtime_checkable
class FittingEngine(Engine, Protocol):
    """A trainer that can go back to its best epoch, and embed what is asked for."""

    def remember(self) -> None:
        """Keeps the network as it is now."""

    def recall(self) -> None:
        """Goes back to the network that was kept last."""

    def embed(self, histories: Histories) -> Embeddings:
        """Returns embeddings by the network as it is now."""


class OpenEngine(Protocol):
    """Makes a trainer ready to train."""

    def __call__(self, task: Task, config: EngineConfig, *arguments: str) -> Engine: ...


def ndcg_at_10(embeddings: Embeddings, task: Task) -> float:
    """Returns NDCG@10 of the validation targets over the whole catalog."""
    gains = []
    for start in range(0, len(task.validation), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        scores, targets = embeddings.scores(rows), task.validation_targets[rows]
        at_target = scores[np.arange(len(targets)), targets]
        if task.seen_filter:
            for row, n in enumerate(range(start, start + len(targets))):
                own = slice(task.validation.offsets[n], task.validation.offsets[n + 1])
                scores[row, task.validation.products[own]] = -np.inf
        # A tie counts half: neither luck nor bad luck.
        better = (scores > at_target[:, None]).sum(1)
        tied = (scores == at_target[:, None]).sum(1) - 1
        ranks = better + np.maximum(tied, 0) / 2
        gains.append(np.where(ranks < TOP, 1 / np.log2(ranks + 2), 0.0))
    return float(np.concatenate(gains).mean())
