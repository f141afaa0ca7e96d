"""The release that is measured: made once by the trainer's own commands on a simulated shop.

How well it predicts does not matter here and what it costs to ask does, so its network has the
trainer's default size and learns for one epoch.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from deploy.demo.pipeline import trainer
from shopintent.artifacts import ReleasesRoot

ROOT = Path(__file__).resolve().parents[2]
MAKES_IT = ("trainer/shopintent", "server/shopintent/behavior", "server/shopintent/artifacts")
"""Folders whose code decides what a release is."""
SHOP = ("--shoppers=800", "--days=14")
TRAINING = ("--max-epochs=1",)
PUBLISHING = ("--force=made to measure speed, not evaluated",)


def bench_release(console: Console, folder: Path) -> ReleasesRoot:
    """Returns a releases root in the folder that today's code made; it is made when there is none.

    Roots that other code made are removed.
    """
    made = folder / digest()
    releases = ReleasesRoot(made / "releases")
    if releases.current() is None:
        shutil.rmtree(folder, ignore_errors=True)
        made.mkdir(parents=True)
        _make(console, made, releases)
    return releases


def _make(console: Console, folder: Path, releases: ReleasesRoot) -> None:
    log, prepared, run = (str(folder / name) for name in ("log", "prepared", "run"))
    trainer(console, "simulate", "--out", log, *SHOP)
    trainer(console, "prepare", log, "--mapping", f"{log}/mapping.toml", "--out", prepared)
    trainer(console, "train", prepared, "--out", run, *TRAINING)
    trainer(console, "publish", run, "--to", str(releases.path), *PUBLISHING)


def digest() -> str:
    """Returns a name for the code and the settings that make the release."""
    found = hashlib.sha256(" ".join((*SHOP, *TRAINING, *PUBLISHING)).encode())
    for path in _sources():
        found.update(f"\0{path.relative_to(ROOT)}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _sources() -> Iterator[Path]:
    for folder in MAKES_IT:
        yield from sorted((ROOT / folder).rglob("*.py"))
