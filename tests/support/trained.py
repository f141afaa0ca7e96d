"""A tiny simulated shop with a run and a release: the real text encoder, one epoch of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.signature import VISIT_PURCHASE_PROBABILITY
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data import Dataset, SimulationConfig, load_mapping, prepare, simulate
from shopintent.trainer.data.progress import silent
from shopintent.trainer.heads import IntentHeads
from shopintent.trainer.publish import publish
from shopintent.trainer.run import Run
from shopintent.trainer.train import train

RELEASE = "tiny"
MAX_EVENTS = 16
SHOP = SimulationConfig(seed=3, n_shoppers=120, n_products=110, days=10, n_bots=0)
CONFIG = TrainConfig(
    max_epochs=1, d_model=16, n_layers=1, max_events=MAX_EVENTS, code_size=16, max_text_tokens=32
)


@dataclass(frozen=True)
class Trained:
    """A published release and what it came from."""

    log: Path
    dataset: Dataset
    run: Run
    releases: ReleasesRoot


def make_trained(folder: Path) -> Trained:
    """Simulates, prepares, trains and publishes in the folder."""
    log, releases = folder / "log", ReleasesRoot(folder / "releases")
    simulate(log, SHOP)
    dataset = prepare(log, load_mapping(log / "mapping.toml"), folder / "prepared")
    run = train(dataset, CONFIG, folder / "run", silent)
    assert run.heads.answers == (VISIT_PURCHASE_PROBABILITY,)
    expect_at_random(run.heads)
    run.save()
    publish(run, dataset, releases, RELEASE, silent)
    return Trained(log, dataset, run, releases)


def expect_at_random(heads: IntentHeads) -> None:
    """Lets the heads expect something, for which the shop has too few orders."""
    generator = torch.Generator().manual_seed(5)
    for head in (heads.time, heads.quantity):
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * 0.02)
        head.bias.fill_(6.0)
        head.log_range.copy_(torch.tensor([3.0, 12.0]))
        head.given.fill_(True)
