"""From a log to a published release, with the trainer's own commands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy.demo.processes import ProcessError, clean_environment
from deploy.triton.parent import ending_with_this_process
from shopintent.artifacts import ReleasesRoot

TRAINER = Path(sys.executable).with_name("shopintent-trainer")
ROOT = Path(__file__).parents[2]
DEMOS = ROOT / ".demo"
SIMULATED = "simulated"
MAX_MINUTES = 2.5
"""Of the training loop, so that the demo with its set-up ends within ten minutes on two cores."""


@dataclass(frozen=True)
class Workplace:
    """The folder of one demo, and the log it starts from."""

    name: str
    log: Path | None = None
    """None simulates a shop."""
    mapping: str = ""

    @classmethod
    def of(cls, log: Path | None, mapping: str | None) -> Workplace:
        """Returns the workplace for a log; raises ProcessError when something is missing."""
        if log is None:
            return cls(SIMULATED)
        if not log.exists():
            raise ProcessError(f"LOG={log} does not exist")
        if not mapping:
            raise ProcessError(
                "a log needs MAPPING=<TOML file or shipped name>, which says what its columns mean"
            )
        name = re.sub(r"[^\w.-]+", "-", log.resolve().name)
        return cls(name, log.resolve(), mapping)

    @classmethod
    def last(cls) -> Workplace:
        """Returns the workplace of the last demo; raises ProcessError when there was none."""
        try:
            return cls((DEMOS / "last").read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            raise ProcessError("no demo has run yet: run `make demo` first") from None

    @property
    def folder(self) -> Path:
        return DEMOS / self.name

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def training_run(self) -> Path:
        return self.folder / "run"

    @property
    def releases(self) -> ReleasesRoot:
        return ReleasesRoot(self.folder / "releases")

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def cut_time(self) -> int:
        """Returns the unix time from which on the model saw nothing."""
        saved = json.loads((self.training_run / "run.json").read_text(encoding="utf-8"))
        return int(saved["cut_time"])

    def remember(self) -> None:
        """Makes this the demo that `last` returns."""
        (DEMOS / "last").write_text(self.name + "\n", encoding="utf-8")


def train_release(console: Console, workplace: Workplace) -> None:
    """Makes everything anew in the workplace: log, prepared data, training run and release."""
    shutil.rmtree(workplace.folder, ignore_errors=True)
    workplace.folder.mkdir(parents=True)
    log, mapping = workplace.log, workplace.mapping
    if log is None:
        log = workplace.folder / "log"
        trainer(console, "simulate", "--out", str(log))
        mapping = str(log / "mapping.toml")
    prepared, run = str(workplace.prepared), str(workplace.training_run)
    trainer(console, "prepare", str(log), "--mapping", mapping, "--out", prepared)
    trainer(console, "train", prepared, "--out", run, f"--max-minutes={MAX_MINUTES}")
    trainer(console, "evaluate", run)
    # Any log may be shown, even one too small or too odd to pass the gates of a release.
    shown = ("--force", "a demo shows whatever was trained")
    trainer(console, "publish", run, "--to", str(workplace.releases.path), *shown)


def trainer(console: Console, command: str, *arguments: str) -> None:
    """Runs one command of shopintent-trainer, which shows its own progress."""
    console.rule(f"[bold]{command}[/]", align="left")
    started = time.monotonic()
    line = [str(TRAINER), command, *arguments]
    status = subprocess.run(
        ending_with_this_process(line), check=False, env=clean_environment()
    ).returncode
    if status != 0:
        raise ProcessError(
            f"shopintent-trainer {command} ended with status {status}; mend what it says above, "
            f"or look closer with:\n  {' '.join(line)}"
        )
    console.print(f"{command} took {time.monotonic() - started:.0f} s", style="dim")
