"""What training looks like while it runs, for TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from tensorboardX import SummaryWriter

from shopintent.trainer.batches import Batch
from shopintent.trainer.training_state import TrainingState

LOG_FOLDER = "tensorboard"
WRITE_EVERY_S = 30.0


class TrainingLog:
    """Writes event files now and then, so that no step waits for them.

    All curves go over steps. Those of a training that was resumed go on where its checkpoint stood.
    """

    def __init__(self, folder: Path, *, write_every_s: float = WRITE_EVERY_S) -> None:
        self.folder = folder / LOG_FOLDER
        self.write_every_s = write_every_s
        self.writer: SummaryWriter | None = None
        self.written_at = time.monotonic()
        self.n_written = 0
        """Steps."""
        self.n_events = 0
        """Learned from since then, validation in the time between included."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.writer is not None:
            self.writer.close()

    def stepped(self, state: TrainingState, batch: Batch) -> None:
        """Counts a step; writes where the last time is long enough ago."""
        if self.writer is None:
            self.writer = self.open(state)
        self.n_events += int(np.count_nonzero(batch.n_seen))
        if time.monotonic() - self.written_at >= self.write_every_s:
            self.write(self.writer, state)

    def judged(self, state: TrainingState, line: dict[str, float]) -> None:
        """Writes how an epoch went, before the state goes on to the next."""
        if self.writer is None:
            return
        self.write(self.writer, state)
        for name in line.keys() - {"epoch"}:
            self.writer.add_scalar(f"epoch/{name}", line[name], state.n_steps - 1)
        self.writer.flush()

    def open(self, state: TrainingState) -> SummaryWriter:
        """Begins with the step just taken; what an earlier process wrote of it and later goes."""
        self.n_written = state.n_steps - 1
        self.written_at = time.monotonic()
        return SummaryWriter(
            str(self.folder), purge_step=self.n_written, filename_suffix=f".{self.n_written}"
        )

    def write(self, writer: SummaryWriter, state: TrainingState) -> None:
        """Writes all steps since the last time."""
        new = state.n_steps - self.n_written
        if new:
            losses = torch.stack(state.losses[-new:]).tolist()
            for step, (action, product) in enumerate(losses, self.n_written):
                writer.add_scalar("loss/action", action, step)
                writer.add_scalar("loss/product", product, step)
            seconds = max(time.monotonic() - self.written_at, 1e-9)
            last = state.n_steps - 1
            writer.add_scalar("learning_rate", state.learning_rate, last)
            writer.add_scalar("speed/events_per_second", self.n_events / seconds, last)
        self.n_written, self.n_events = state.n_steps, 0
        self.written_at = time.monotonic()
