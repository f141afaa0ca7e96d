"""A training run on disk: the network, its heads and tokenizer, and all that is needed to evaluate
and publish it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from shopintent.behavior import BehaviorTokenizer
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.heads import HeadsConfig, IntentHeads
from shopintent.trainer.model import IntentNetwork, ModelConfig

FORMAT_VERSION = 2
WEIGHTS, HEADS = "model.safetensors", "heads.safetensors"
INFO, TOKENIZER = "run.json", "behavior_tokenizer"


class RunError(ValueError):
    """A run cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True)
class RunInfo:
    """What a run was made from."""

    dataset: str
    """The folder of the prepared dataset."""
    config: TrainConfig
    model: ModelConfig
    heads: HeadsConfig
    actions: tuple[str, ...]
    horizons_s: tuple[int, ...]
    cut_time: int
    """Unix seconds; the run never saw an event from here on."""
    history: tuple[dict[str, float], ...]
    """The losses of every epoch."""
    best_epoch: int
    observed_until: int = 0
    """Unix seconds of the dataset's last event; from the cut to there it was held out."""
    parent: str | None = None
    """The release that an update went on from."""


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    folder: Path
    info: RunInfo
    network: IntentNetwork
    heads: IntentHeads
    tokenizer: BehaviorTokenizer

    def save(self) -> None:
        """Writes network, heads, tokenizer and info into the folder; run.json comes last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(self.folder / TOKENIZER)
        self.save_weights(self.folder)

    def save_weights(self, folder: Path) -> None:
        """Writes all but the tokenizer into a folder, which is made; run.json comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.network.state_dict(), folder / WEIGHTS)
        save_file(self.heads.state_dict(), folder / HEADS)
        content = {"format_version": FORMAT_VERSION, **asdict(self.info)}
        written = folder / f".{INFO}"
        written.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        written.replace(folder / INFO)

    @classmethod
    def open(cls, folder: Path, tokenizer: Path | None = None) -> Run:
        """Reads a run, its tokenizer from another folder where that is told.

        Raises RunError when it is missing, unfinished, or of another version.
        """
        try:
            saved: dict[str, Any] = json.loads((folder / INFO).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{folder} is no finished training run ({error}): make one with "
                "`shopintent-trainer train`"
            ) from error
        try:
            if saved.pop("format_version", None) != FORMAT_VERSION:
                raise RunError(f"{folder} was made by another version of the trainer: train again")
            return cls._from_saved(folder, saved, tokenizer or folder / TOKENIZER)
        except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
            raise RunError(f"{folder} is damaged ({error}): train again") from error

    @classmethod
    def _from_saved(cls, folder: Path, saved: dict[str, Any], tokenizer: Path) -> Run:
        info = RunInfo(
            dataset=saved["dataset"],
            config=TrainConfig(**saved["config"]),
            model=ModelConfig(**saved["model"]),
            heads=HeadsConfig(
                **saved["heads"] | {"event_types": tuple(saved["heads"]["event_types"])}
            ),
            actions=tuple(saved["actions"]),
            horizons_s=tuple(saved["horizons_s"]),
            cut_time=saved["cut_time"],
            history=tuple(saved["history"]),
            best_epoch=saved["best_epoch"],
            observed_until=saved.get("observed_until", 0),
            parent=saved.get("parent"),
        )
        network = IntentNetwork(info.model)
        network.load_state_dict(load_file(folder / WEIGHTS))
        heads = IntentHeads(info.heads)
        heads.restore(load_file(folder / HEADS))
        loaded = BehaviorTokenizer.load(tokenizer)
        return cls(folder, info, network.eval(), heads.eval(), loaded)


def weights_digest(folder: Path) -> str:
    """Returns what tells the weights in a run's folder from all others, for an evaluation to name.

    Raises RunError when they are missing.
    """
    digest = hashlib.sha256()
    try:
        for name in (WEIGHTS, HEADS):
            digest.update((folder / name).read_bytes())
    except OSError as error:
        raise RunError(f"{folder} is damaged ({error}): train again") from error
    return digest.hexdigest()[:16]
