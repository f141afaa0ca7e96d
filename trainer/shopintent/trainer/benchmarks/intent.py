"""Purchase intent on real logs, trained and judged as a shop would: by `train` and `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shopintent.trainer.benchmarks.sources import source
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data import load_mapping, prepare
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.comparison import is_ours
from shopintent.trainer.evaluation.evaluate import evaluate
from shopintent.trainer.evaluation.sections import Report
from shopintent.trainer.train import train


@dataclass(frozen=True)
class IntentBenchmark:
    """A log and how it is cut."""

    name: str
    """Of the benchmark and of the mapping."""
    title: str
    source: str
    holdout_from: int | None = None
    """Unix seconds; without it the newest share of the events is held out."""


TAOBAO = IntentBenchmark(
    "taobao",
    "Taobao: purchase intent",
    "taobao-userbehavior-sample",
    holdout_from=1_512_144_000,  # 2017-12-02T00:00+08:00
)
REES46 = IntentBenchmark(
    "rees46",
    "REES46: purchase intent",
    "rees46-multi-category-sample",
    holdout_from=1_569_896_400,  # 2019-10-01T02:20:00Z, half an hour before the log ends
)


def run_intent(
    benchmark: IntentBenchmark, folder: Path, configs: Sequence[TrainConfig], on_progress: Progress
) -> Report:
    """Prepares, trains and evaluates; with several configs (seeds), ours is told of each.

    Raises BenchmarkError when the data set is missing.
    """
    log = source(benchmark.source)
    dataset = prepare(log, load_mapping(benchmark.name), folder / "prepared", on_progress)
    reports = []
    for config in configs:
        run = train(dataset, config, folder / f"run-{config.seed}", on_progress)
        reports.append(evaluate(run, dataset, on_progress, ablation=True))
    first, *others = reports
    rows = [*first.rows, *(row for other in others for row in other.rows if is_ours(row.model))]
    protocol = {
        "benchmark": benchmark.name,
        **first.protocol,
        "seeds": [config.seed for config in configs],
    }
    return replace(first, title=benchmark.title, protocol=protocol, rows=rows)
