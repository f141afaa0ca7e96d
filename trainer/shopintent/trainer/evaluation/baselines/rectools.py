"""RecTools' SASRec with softmax over all products: the sequence model a shop's team would install.

It trains in the environment of `make peers`, in a process of its own, and stops early on NDCG@10
of products that neither it nor ours learns from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.next_product import NextProductTask, last_learned
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
MAX_VALIDATED = 4_000
"""Requests that tell when to stop; more are drawn from at random."""


@dataclass(frozen=True)
class RecToolsConfig:
    """What the baseline may spend."""

    engine: EngineConfig = field(default_factory=EngineConfig)
    max_epochs: int = 60
    patience: int = 4
    """Epochs without a better NDCG@10 before training stops."""
    max_minutes: float = 20.0


@dataclass(frozen=True, eq=False)
class RecToolsScorer:
    """A fitted SASRec and its view of all requests of a task."""

    embeddings: Embeddings
    versions: tuple[str, ...]
    """Packages that did the work."""
    history: tuple[float, ...]
    """Validation NDCG@10 after every epoch; the best epoch answers."""
    name: str = MODEL

    def scores(self, requests: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns [n, P] scores; products that training did not see are at the very end."""
        return self.embeddings.scores(requests)


def fit_rectools(
    task: NextProductTask, config: RecToolsConfig, on_progress: Progress, *, seen_filter: bool
) -> RecToolsScorer:
    """Trains on what the task lets models learn from, but for what tells when to stop.

    `seen_filter` says how validation ranks. Raises PeersError when RecTools is not set up or fails.
    """
    tuned_on = tuning_task(task).sample(MAX_VALIDATED, config.engine.seed)
    learned = Task(
        n_products=task.n_products,
        training=learned_histories(tuned_on),
        validation=request_histories(tuned_on),
        validation_targets=tuned_on.targets.astype(np.int32),
        seen_filter=seen_filter,
    )
    with started(MODEL, ENGINE, peers_python(), learned, config.engine) as worker:
        save_histories(worker.folder / HISTORIES_FILE, request_histories(task))
        history = fit(worker, learned, config, on_progress)
        embeddings = load_embeddings(worker.folder / EMBEDDINGS_FILE)
        return RecToolsScorer(embeddings, worker.versions, history)


def tuning_task(task: NextProductTask) -> NextProductTask:
    """Returns what tells when to stop.

    With one left out, that is the event before it; otherwise it is what each shopper did last of
    what may be learned. Either is kept from learning.
    """
    if task.split != "leave-one-out":
        return last_learned(task)
    before = task.take((task.ends - task.begins > 1) & (task.products[task.ends - 1] >= 0))
    ends = before.ends - 1
    learned = task.learned.copy()
    learned[ends] = False
    return replace(
        before,
        learned=learned,
        ends=ends,
        request_times=task.event_times[ends],
        targets=task.products[ends],
    )


def learned_histories(task: NextProductTask) -> Histories:
    """Returns what each shopper met among the learned events."""
    kept = task.learned & (task.products >= 0)
    before = np.append(0, np.cumsum(kept))
    offsets = np.unique(before[task.offsets])  # without shoppers of whom nothing is left
    return Histories(task.products[kept].astype(np.int32), offsets)


def request_histories(task: NextProductTask) -> Histories:
    """Returns what each request has seen."""
    position, product, _ = task.seen(np.arange(len(task)))
    sizes = np.bincount(position, minlength=len(task))
    return Histories(product.astype(np.int32), np.append(0, np.cumsum(sizes)))


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
