"""Where training stands, in one file: a killed training goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shopintent.trainer.batches import Batch, Batches
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.training_state import TrainingState

CHECKPOINT_FILE = "checkpoint.safetensors"
FORMAT_VERSION = "1"
SAVE_EVERY_S = 60.0
AnyArray = NDArray[Any]
WHEN_TO_STOP = ("max_epochs", "max_minutes", "patience")
"""Settings that may differ: they change how long training goes on, not how."""


class CheckpointError(ValueError):
    """A checkpoint is damaged or of another training; the message names it and the remedy."""


class Checkpoint:
    """The checkpoint of one training, written over and over."""

    def __init__(self, folder: Path, *, save_every_s: float = SAVE_EVERY_S) -> None:
        self.path = folder / CHECKPOINT_FILE
        self.save_every_s = save_every_s
        self.saved_at = time.monotonic()
        self.digest = ""

    def resume(self, state: TrainingState, digest: str) -> None:
        """Takes the state back to where the file stands, if there is one.

        `digest` tells this training from others. Raises CheckpointError.
        """
        self.digest = digest
        if not self.path.exists():
            return
        try:
            with safe_open(self.path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.get("format_version") != FORMAT_VERSION:
                raise self.error("was made by another version of the trainer")
            if about["digest"] != digest:
                raise self.error("is that of a training with other settings or other data")
            state.restore(tensors, json.loads(about["numbers"]))
        except (SafetensorError, OSError, KeyError, RuntimeError, TypeError) as error:
            raise self.error(f"is damaged ({error})") from error

    def error(self, what: str) -> CheckpointError:
        """Returns the error that says what is wrong and what to do."""
        return CheckpointError(
            f"{self.path} {what}: train with --restart to begin anew, or into another folder"
        )

    def stepped(self, state: TrainingState, batch: Batch) -> None:
        """Called after every step."""
        self.save_when_due(state)

    def save_when_due(self, state: TrainingState) -> None:
        """Saves where the last time is long enough ago."""
        if time.monotonic() - self.saved_at >= self.save_every_s:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        """Writes where training stands; whatever happens, the file is whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "format_version": FORMAT_VERSION,
            "digest": self.digest,
            "numbers": json.dumps(state.numbers()),
        }
        written = self.path.with_name(f".{self.path.name}")
        save_file(state.tensors(), written, about)
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(self.path)
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        """Forgets where training stands."""
        self.path.unlink(missing_ok=True)


def digest_of(
    state: TrainingState,
    sampler: CandidateSampler,
    training: Batches,
    validation: Batches,
    config: TrainConfig,
) -> str:
    """Returns a fingerprint of all that decides how a training that has yet to begin will go."""
    settings = {name: each for name, each in asdict(config).items() if name not in WHEN_TO_STOP}
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([settings, asdict(state.network.config)], sort_keys=True).encode())
    weights = [each for _, each in sorted(state.network.state_dict().items())]
    arrays = map(as_array, [*weights, sampler.tokens, sampler.text_embeddings, sampler.shares])
    add(digest, arrays)
    for batches in (training, validation):
        sequences, windows, span = batches.sequences, batches.windows, batches.span
        add(digest, (sequences.tokens, sequences.event_times, sequences.next_actions))
        add(digest, (windows.starts, windows.ends, windows.learn_from))
        add(digest, (span.begins, span.ends, span.observed_until))
    return digest.hexdigest()


def add(digest: hashlib.blake2b, arrays: Iterable[AnyArray]) -> None:
    """Adds arrays, of whatever types, to a fingerprint."""
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)


def as_array(tensor: Tensor) -> AnyArray:
    """Returns what a tensor holds."""
    array: AnyArray = tensor.detach().cpu().numpy()
    return array
