"""A small simulated shop, trained and published by the real commands."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.processes import clean_environment
from shopintent.artifacts import ReleasesRoot
from shopintent.trainer.data import Dataset

TRAINER = Path(sys.executable).with_name("shopintent-trainer")
SHOP = ["--seed=3", "--shoppers=300", "--products=300", "--days=14"]
QUICK = ["--max-epochs=2", "--d-model=32", "--n-layers=1"]


@dataclass(frozen=True)
class World:
    """A published release and the data it came from."""

    dataset: Dataset
    run: Path
    releases: ReleasesRoot


def make_world(folder: Path) -> World:
    """Simulates, prepares, trains, evaluates and publishes in the folder."""
    log, prepared, run = folder / "log", folder / "prepared", folder / "run"
    releases = ReleasesRoot(folder / "releases")
    trainer("simulate", "--out", log, *SHOP)
    trainer("prepare", log, "--mapping", log / "mapping.toml", "--out", prepared)
    trainer("train", prepared, "--out", run, *QUICK)
    trainer("evaluate", run)
    trainer("publish", run, "--to", releases.path)
    return World(Dataset.open(prepared), run, releases)


def trainer(*arguments: str | Path) -> str:
    """Runs a command of shopintent-trainer and returns what it printed; it must succeed."""
    done = subprocess.run(
        [str(TRAINER), *map(str, arguments)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, arguments))}:\n{done.stdout}"
    return done.stdout
