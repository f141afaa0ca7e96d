"""A small simulated shop with two seasons and a release that learned the first, for updates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shopintent.artifacts import ReleasesRoot
from shopintent.trainer import fit_network as fitting
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data import Dataset, SimulationConfig, load_mapping, prepare, simulate
from shopintent.trainer.data.progress import silent
from shopintent.trainer.publish import publish
from shopintent.trainer.run import Run
from shopintent.trainer.text import CACHE_FILE, MODEL_FILE, TOKENIZER_FILE
from shopintent.trainer.train import train
from support.trained import Trained

FIRST = "season-1"
SHOP = SimulationConfig(seed=11, n_shoppers=300, n_products=150, days=12, n_bots=0)
# Epochs end training, never time: a busy machine trains the same.
CONFIG = TrainConfig(
    max_epochs=10, patience=3, max_minutes=60.0, d_model=32, n_layers=1, max_events=32,
    code_size=16, max_text_tokens=32, max_prefixes=4_000,
)  # fmt: skip


@dataclass(frozen=True)
class Seasons:
    """The release of the first season, and what happened in both."""

    first: Dataset
    second: Dataset
    run: Run
    releases: ReleasesRoot


def make_seasons(folder: Path, trained: Trained) -> Seasons:
    """Simulates, prepares, trains the first season and publishes it in the folder.

    The text encoder is that of the run that is there, which takes long to export.
    """

    def copy(name: str, folder: Path, *, max_tokens: int) -> None:
        for file in (MODEL_FILE, TOKENIZER_FILE, CACHE_FILE):
            (folder / file).write_bytes((trained.run.folder / file).read_bytes())

    first, second = (season(folder, number) for number in (1, 2))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fitting, "export_text_encoder", copy)
        run = train(first, CONFIG, folder / "run", silent)
    releases = ReleasesRoot(folder / "releases")
    publish(run, first, releases, FIRST, silent)
    return Seasons(first, second, run, releases)


def season(folder: Path, number: int) -> Dataset:
    """Returns the prepared log of a season."""
    log = folder / f"log-{number}"
    simulate(log, replace(SHOP, season=number))
    return prepare(log, load_mapping(log / "mapping.toml"), folder / f"prepared-{number}")
