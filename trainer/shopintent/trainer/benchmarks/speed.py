"""How fast ours trains beside RecTools and RecBole: the same data, width, batch and threads.

All train at once in turns of some seconds, each in a process of its own, so that whatever else the
machine does hits all alike. After every turn each is judged on the same products, off the clock:
that gives the time to the same quality.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.benchmarks.beauty import prepare_beauty
from shopintent.trainer.benchmarks.own_engine import begin, task_of
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.peers.exchange import EngineConfig, Task
from shopintent.trainer.peers.process import Worker, peers_python, started
from shopintent.trainer.splits import LeaveOneOut

OWN = "shopintent.trainer.benchmarks.own_engine:open_engine"
RECTOOLS = "shopintent.trainer.peers.rectools_engine:"
RECBOLE = "shopintent.trainer.peers.recbole_engine:RecBoleEngine"


@dataclass(frozen=True)
class System:
    """A trainer in one of its settings."""

    name: str
    engine: str
    precision: str

    @property
    def is_ours(self) -> bool:
        """Whether it runs in our own environment."""
        return self.engine == OWN


SYSTEMS = (
    System("shopintent", OWN, "auto"),
    System("shopintent-float32", OWN, "float32"),
    System("rectools-sasrec", RECTOOLS + "as_shipped", "float32"),
    System("recbole-sasrec", RECBOLE, "float32"),
)
"""Everybody as installed, and ours without the low precision that is its default where fast."""
MORE_SYSTEMS = (
    System("rectools-sasrec-bfloat16", RECTOOLS + "as_shipped", "bfloat16"),
    System("rectools-sasrec-loss-on-targets", RECTOOLS + "loss_on_targets", "float32"),
    System("recbole-sasrec-bfloat16", RECBOLE, "bfloat16"),
)
"""The others with what they could do: their own low precision, a loss that skips padding."""


@dataclass(frozen=True)
class SpeedConfig:
    """What the benchmark may spend."""

    minutes: float = 1.75
    """Training of each system."""
    n_turns: int = 12
    engine: EngineConfig = field(default_factory=EngineConfig)
    systems: Sequence[System] = SYSTEMS


@dataclass(frozen=True)
class Turn:
    """One system's turn."""

    seconds: float
    n_targets: int
    """Products that were foretold in it."""
    ndcg: float
    """NDCG@10 of the validation after it."""


@dataclass(frozen=True)
class SpeedResult:
    """What `run_speed` measured."""

    protocol: dict[str, Any]
    rows: list[MetricRow]


def run_speed(folder: Path, config: SpeedConfig, on_progress: Progress) -> SpeedResult:
    """Measures all systems. Raises BenchmarkError or PeersError when something is missing."""
    peers, load = peers_python(), os.getloadavg()[0]
    dataset = prepare_beauty(folder, on_progress)
    own = TrainConfig(seed=config.engine.seed, max_events=config.engine.max_length)
    task = task_of(begin(dataset, own, folder / "run", on_progress))
    with ExitStack() as stack:
        workers = []
        for n, system in enumerate(config.systems):
            on_progress("starting the trainers", n, len(config.systems))
            arguments = (dataset.folder, folder / "run") if system.is_ours else ()
            worker = started(
                system.name,
                system.engine,
                Path(sys.executable) if system.is_ours else peers,
                task,
                replace(config.engine, precision=system.precision),
                *(str(each.resolve()) for each in arguments),
            )
            workers.append(stack.enter_context(worker))
        on_progress("starting the trainers", len(workers), len(workers))
        turns = take_turns(workers, config, on_progress)
    return SpeedResult(
        protocol=protocol_of(config, task, workers, turns, load),
        rows=rows_of(turns, n_targets(task), config.engine.seed),
    )


def take_turns(
    workers: Sequence[Worker], config: SpeedConfig, on_progress: Progress
) -> dict[str, list[Turn]]:
    """Returns every system's turns."""
    seconds = 60 * config.minutes / config.n_turns
    turns: dict[str, list[Turn]] = {worker.name: [] for worker in workers}
    total = config.n_turns * len(workers)
    for done in range(total):
        on_progress("training in turns", done, total)
        worker = workers[done % len(workers)]
        *_, told = worker.ask(do="slice", seconds=seconds)
        turns[worker.name].append(Turn(told["seconds"], told["n_targets"], told["ndcg"]))
    on_progress("training in turns", total, total)
    return turns


def rows_of(turns: dict[str, list[Turn]], epoch_targets: int, seed: int) -> list[MetricRow]:
    """Returns the rows of all systems. The first turn warms up and tells nothing of the speed."""
    within_reach = min(max(turn.ndcg for turn in own) for own in turns.values())
    rows = []
    for model, own in turns.items():
        epochs_s = [epoch_targets * turn.seconds / turn.n_targets for turn in own[1:]]
        told = {
            "seconds_per_epoch": median(epochs_s),
            "seconds_per_epoch_fastest": min(epochs_s),
            "seconds_per_epoch_slowest": max(epochs_s),
            "epochs": sum(turn.n_targets for turn in own) / epoch_targets,
            "validation_ndcg": own[-1].ndcg,
            "seconds_to_ndcg": seconds_to(within_reach, own),
            "ndcg_within_reach": within_reach,
        }
        rows += [
            MetricRow(
                model=model,
                metric=metric,
                value=value,
                split=LeaveOneOut().name,
                seen_filter=True,
                k=10 if "ndcg" in metric else None,
                seed=seed,
                samples=len(epochs_s),
            )
            for metric, value in told.items()
        ]
    return rows


def seconds_to(ndcg: float, turns: Sequence[Turn]) -> float:
    """Returns the training time after which a system is that good, at a turn's end."""
    elapsed = np.cumsum([turn.seconds for turn in turns])
    first = next(n for n, turn in enumerate(turns) if turn.ndcg >= ndcg)
    return float(elapsed[first])


def n_targets(task: Task) -> int:
    """Returns the products that an epoch foretells: all but the first of every shopper."""
    return int((np.diff(task.training.offsets) - 1).sum())


def protocol_of(
    config: SpeedConfig,
    task: Task,
    workers: Sequence[Worker],
    turns: dict[str, list[Turn]],
    load: float,
) -> dict[str, Any]:
    """Returns what the figures were measured by."""
    engine = config.engine
    return {
        "benchmark": "speed",
        "data": "training part of Amazon Beauty 2014, 5-core of S3-Rec, leave-one-out",
        "shoppers": len(task.training),
        "products": task.n_products,
        "targets_per_epoch": n_targets(task),
        "machine": machine(),
        "threads": engine.n_threads,
        "load_before": round(load, 2),
        "width": engine.width,
        "blocks": engine.n_blocks,
        "heads": engine.n_heads,
        "history": engine.max_length,
        "targets_per_batch": f"about {engine.batch_targets}",
        "loss": "softmax over all products",
        "optimizer": f"Adam, learning rate {engine.learning_rate}",
        "precision": {system.name: system.precision for system in config.systems},
        "versions": {worker.name: list(worker.versions) for worker in workers},
        "turns": f"{config.n_turns} of {60 * config.minutes / config.n_turns:.0f} s each, in turn; "
        "the first is not counted for the speed",
        "seconds_to_ndcg": "training time until the best NDCG@10 of the slowest is reached, on "
        f"{len(task.validation)} validation products, seen products filtered; to a turn's length",
        "curves": {name: curve(own) for name, own in turns.items()},
    }


def curve(turns: Sequence[Turn]) -> list[list[float]]:
    """Returns seconds of training and NDCG@10 after every turn."""
    elapsed = np.cumsum([turn.seconds for turn in turns]).tolist()
    return [[round(s, 1), round(turn.ndcg, 5)] for s, turn in zip(elapsed, turns, strict=True)]


def machine() -> str:
    """Returns the processor and how many of its cores may be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def table(result: SpeedResult) -> str:
    """Returns the figures as a table in Markdown."""
    values: dict[str, dict[str, float]] = {}
    for row in result.rows:
        values.setdefault(row.model, {})[row.metric] = row.value
    reach = next(iter(values.values()))["ndcg_within_reach"]
    lines = [
        f"| model | s/epoch | fastest-slowest | epochs | NDCG@10 | s to NDCG@10 {reach:.4f} |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for model, own in values.items():
        spread = f"{own['seconds_per_epoch_fastest']:.1f}-{own['seconds_per_epoch_slowest']:.1f}"
        lines.append(
            f"| {model} | {own['seconds_per_epoch']:.1f} | {spread} | {own['epochs']:.1f} | "
            f"{own['validation_ndcg']:.4f} | {own['seconds_to_ndcg']:.0f} |"
        )
    return "\n".join(lines)
