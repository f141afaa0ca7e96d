"""Our own trainer as an engine, so that it runs as those do that it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.batches import Batch
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data import Dataset
from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.fit_network import Fit, begin_fit
from shopintent.trainer.learn import Clock, train_epoch, validate
from shopintent.trainer.peers.engine import Step
from shopintent.trainer.peers.exchange import EngineConfig, Histories, Task
from shopintent.trainer.splits import LeaveOneOut
from shopintent.trainer.training_state import TrainingState

FOREVER_MINUTES = 1e6
N_VALIDATED = 2_000
"""Products that tell how good a network is; validation is not timed, but takes its time."""


class Stopped(Exception):
    """Ends a training."""


class OwnEngine:
    """The network of `train`, by the very steps of `train`."""

    def __init__(self, fit: Fit, config: TrainConfig) -> None:
        self.fit, self.config = fit, config
        self.state = TrainingState(fit.network, config)

    @property
    def versions(self) -> tuple[str, ...]:
        """Name and version of what does the work."""
        return f"shopintent {version('shopintent')}", f"torch {torch.__version__}"

    def train(self, goes_on: Callable[[Step], bool]) -> None:
        """Trains epoch after epoch; a batch of few windows may end one."""
        clock = Clock(self.config, 0.0, silent)
        try:
            while True:
                asked = Asked(goes_on)
                train_epoch(
                    self.state, self.fit.sampler, self.fit.training, self.config, clock, [asked]
                )
                self.state.epoch += 1
                self.state.losses = []
        except Stopped:
            return

    def validate(self) -> float:
        """Returns NDCG@10 of the products that tell when to stop."""
        fit = self.fit
        found = validate(fit.network, fit.sampler, fit.validation, seen_filter=fit.seen_filter)
        fit.network.train()
        return found.ndcg


class Asked:
    """Asks after every step whether to go on."""

    def __init__(self, goes_on: Callable[[Step], bool]) -> None:
        self.goes_on = goes_on

    def stepped(self, state: TrainingState, batch: Batch) -> None:
        """Raises Stopped where the training is not to go on."""
        n_targets = int(np.count_nonzero(batch.product_labels >= FIRST))
        if not self.goes_on(Step(n_targets, last_of_epoch=False)):
            raise Stopped


def open_engine(task: Task, config: EngineConfig, dataset: str, folder: str) -> OwnEngine:
    """Makes ready to train on the prepared dataset that `task_of` made the task from.

    The folder holds its embedded texts.
    """
    own = train_config(config, task)
    return OwnEngine(begin(Dataset.open(Path(dataset)), own, Path(folder), silent), own)


def begin(dataset: Dataset, config: TrainConfig, folder: Path, on_progress: Progress) -> Fit:
    """Makes everything ready to train with leave-one-out, judged on few products."""
    fit = begin_fit(dataset, LeaveOneOut(), config, folder, on_progress)
    judged = fit.validation.windows.take(np.arange(min(N_VALIDATED, len(fit.validation.windows))))
    return replace(fit, validation=replace(fit.validation, windows=judged))


def train_config(config: EngineConfig, task: Task) -> TrainConfig:
    """Returns our settings for a network and batches as large as everybody's."""
    sizes = np.diff(task.training.offsets)
    slots_a_target = (sizes + 1).sum() / (sizes - 1).sum()
    return TrainConfig(
        seed=config.seed,
        d_model=config.width,
        n_layers=config.n_blocks,
        n_heads=config.n_heads,
        dropout=config.dropout,
        id_dropout=0.0,
        max_events=config.max_length,
        learning_rate=config.learning_rate,
        weight_decay=0.0,
        batch_events=round(config.batch_targets * slots_a_target),
        precision=config.precision,
        max_minutes=FOREVER_MINUTES,
    )


def task_of(fit: Fit) -> Task:
    """Returns for others what ours learns from and is judged on."""
    rows = fit.inputs.sequences.catalog_rows
    first = fit.inputs.sequences.offsets[:-1]
    judged, asked = fit.validation.windows.shoppers, fit.validation.span.begins
    return Task(
        n_products=len(fit.inputs.product_ids),
        training=histories(rows, first, fit.training.span.ends),
        validation=histories(rows, first[judged], asked[judged]),
        validation_targets=rows[asked[judged]].astype(np.int32),
        seen_filter=fit.seen_filter,
    )


def histories(
    rows: NDArray[np.int64], begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> Histories:
    """Returns the stretches [begins, ends) of the products of all events."""
    stretches = [rows[begin:end] for begin, end in zip(begins, ends, strict=True) if end > begin]
    sizes = [len(each) for each in stretches]
    return Histories(np.concatenate(stretches).astype(np.int32), np.append(0, np.cumsum(sizes)))
