"""RecTools' SASRec with softmax over all products: the sequence model a shop's team would install.

It trains in the environment of `make peers`, in a process of its own, with early stopping on the
same validation products as ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shopintent.trainer.data.progress import Progress
from shopintent.trainer.peers.exchange import (
    Embeddings,
    EngineConfig,
    Histories,
    Task,
    load_embeddings,
    save_histories,
)
from shopintent.trainer.peers.process import Worker, peers_python, started
from shopintent.trainer.peers.worker import EMBEDDINGS_FILE, HISTORIES_FILE

MODEL = "rectools-sasrec"
ENGINE = "shopintent.trainer.peers.rectools_engine:loss_on_targets"


@dataclass(frozen=True)
class RecToolsConfig:
    """What the baseline may spend."""

    engine: EngineConfig = field(default_factory=EngineConfig)
    max_epochs: int = 60
    patience: int = 4
    """Epochs without a better NDCG@10 before training stops."""
    max_minutes: float = 20.0


@dataclass(frozen=True, eq=False)
class RecToolsFit:
    """A fitted baseline."""

    embeddings: Embeddings
    """Of the products, and of the histories that were asked for."""
    versions: tuple[str, ...]
    """Packages that did the work."""
    history: tuple[float, ...]
    """Validation NDCG@10 after every epoch; the best epoch is what was kept."""


def fit_rectools(
    task: Task, requests: Histories, config: RecToolsConfig, on_progress: Progress
) -> RecToolsFit:
    """Trains on the task, and embeds the requests by the best epoch.

    Raises PeersError when RecTools is not set up or fails.
    """
    with started(MODEL, ENGINE, peers_python(), task, config.engine) as worker:
        save_histories(worker.folder / HISTORIES_FILE, requests)
        history = fit(worker, task, config, on_progress)
        return RecToolsFit(
            load_embeddings(worker.folder / EMBEDDINGS_FILE), worker.versions, history
        )


def fit(
    worker: Worker, task: Task, config: RecToolsConfig, on_progress: Progress
) -> tuple[float, ...]:
    """Returns the validation NDCG@10 of every epoch."""
    n_targets = int(np.clip(np.diff(task.training.offsets) - 1, 0, config.engine.max_length).sum())
    total = config.max_epochs * n_targets
    answers = worker.ask(
        do="fit",
        max_epochs=config.max_epochs,
        patience=config.patience,
        max_seconds=config.max_minutes * 60,
    )
    for message in answers:
        if "done" in message:
            on_progress(f"{MODEL}, epochs at most", total, total)
            return tuple(message["history"])
        done = message["epoch"] * n_targets + message["n_targets"]
        on_progress(f"{MODEL}, epochs at most", min(done, total), total)
    raise AssertionError("a worker's answers end with one that is done")
