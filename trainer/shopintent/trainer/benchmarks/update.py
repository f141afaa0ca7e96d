"""An update beside the release it goes on from and beside training anew on everything.

A simulated shop has two seasons: a release learns the first, then the second brings new products,
categories and tastes. All are judged on the same requests, of before and of now; an update without
replay tells what replay is for.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.metrics import ALL, MetricRow
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data import Dataset, SimulationConfig, load_mapping, prepare, simulate
from shopintent.trainer.data.prepared import EVENTS_FILE
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.comparison import OURS
from shopintent.trainer.evaluation.sections import Report
from shopintent.trainer.publish import publish
from shopintent.trainer.run import Run
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.train import train
from shopintent.trainer.update.config import UpdateConfig
from shopintent.trainer.update.judge import judge
from shopintent.trainer.update.refresh import Updated, update
from shopintent.trainer.update.split import UpdateSplit
from shopintent.trainer.update.verdict import NEWEST, OLD, SERVING

ANEW, NO_REPLAY = "trained-anew", "no-replay"
RELEASE = "season-1"


@dataclass(frozen=True)
class UpdateBenchmark:
    """The shop, and how long each may learn."""

    shop: SimulationConfig = field(
        default_factory=lambda: SimulationConfig(n_shoppers=1_200, n_products=600, days=21)
    )
    train: TrainConfig = field(default_factory=TrainConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)


@dataclass(frozen=True, eq=False)
class UpdateResult:
    """What was measured."""

    report: Report
    seconds: Mapping[str, float]
    """Of the processor, by model: to train, heads included, without judging and publishing."""
    updated: Updated


def run_update(folder: Path, config: UpdateBenchmark, on_progress: Progress) -> UpdateResult:
    """Simulates, trains, publishes, updates, trains anew, and judges all alike."""
    seasons = [
        season(folder, replace(config.shop, season=number), on_progress) for number in (1, 2)
    ]
    seconds: dict[str, float] = {}
    started = time.process_time()
    first = train(seasons[0], config.train, folder / "run", on_progress, restart=True)
    seconds[SERVING] = time.process_time() - started
    shutil.rmtree(folder / "releases", ignore_errors=True)
    root = ReleasesRoot(folder / "releases")
    publish(first, seasons[0], root, RELEASE, on_progress)
    settings = {OURS: config.update, NO_REPLAY: replace(config.update, replay_ratio=0.0)}
    updates = {
        name: update(
            str(root.path), seasons[1], seasons[0], each, folder / name, on_progress, restart=True
        )
        for name, each in settings.items()
    }
    for name, each in updates.items():
        seconds[name] = float(each.report.protocol["processor_seconds"])
    updated = updates[OURS]
    started = time.process_time()
    anew = trained_anew(folder, updated, config, on_progress)
    seconds[ANEW] = time.process_time() - started
    rows = judge(
        {
            **{name: each.run for name, each in updates.items()},
            SERVING: updated.serving.run,
            ANEW: anew,
        },
        updated.dataset,
        updated.split,
        [each.product_id for each in updated.serving.products],
        TextEncoder.open(updated.run.folder),
        on_progress,
    )
    protocol = {**updated.report.protocol, "benchmark": "update", "seconds": seconds}
    return UpdateResult(replace(updated.report, rows=rows, protocol=protocol), seconds, updated)


def season(folder: Path, shop: SimulationConfig, on_progress: Progress) -> Dataset:
    """Returns the prepared log of one season."""
    log = folder / f"season-{shop.season}"
    simulate(log, shop, on_progress)
    prepared = folder / f"prepared-{shop.season}"
    return prepare(log, load_mapping(log / "mapping.toml"), prepared, on_progress)


def trained_anew(
    folder: Path, updated: Updated, config: UpdateBenchmark, on_progress: Progress
) -> Run:
    """Returns a run trained from nothing on all that the update could have learned from."""
    dataset = without_old_slice(updated.dataset, updated.split, folder / "all")
    settings = replace(config.train, holdout_from=updated.split.cut_time)
    return train(dataset, settings, folder / "run-anew", on_progress, restart=True)


def without_old_slice(dataset: Dataset, split: UpdateSplit, folder: Path) -> Dataset:
    """Writes a copy that lacks the events by which all are judged, and returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(dataset.folder, folder)
    time = pl.col("event_time")
    kept = dataset.events().filter((time < split.old_cut) | (time >= split.new_from))
    kept.collect().write_parquet(folder / EVENTS_FILE)
    return Dataset.open(folder)


def table(result: UpdateResult) -> str:
    """Returns the result as a Markdown table."""
    rows, seconds = result.report.rows, result.seconds
    names = {
        SERVING: "serving release",
        OURS: "updated",
        NO_REPLAY: "updated without replay",
        ANEW: "trained anew on all",
    }
    lines = [
        "| model | NDCG@10 old | NDCG@10 newest | HR@10 old | HR@10 newest | "
        "PR-AUC visit old | PR-AUC visit newest | processor seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model, name in names.items():
        cells = [
            cell(rows, model, metric, judged, horizon)
            for metric, horizon in (("ndcg", None), ("hr", None), ("pr_auc", "session"))
            for judged in (OLD, NEWEST)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds[model]:.0f} |")
    return "\n".join(lines)


def cell(
    rows: Sequence[MetricRow], model: str, metric: str, judged: str, horizon: str | None
) -> str:
    """Returns one value with its interval."""
    for row in rows:
        if (row.model, row.metric, row.split, row.horizon) == (model, metric, judged, horizon) and (
            row.prefix, row.slice, row.k in (None, 10)
        ) == (ALL, ALL, True):  # fmt: skip
            ci = "" if row.ci is None else f" ({row.ci[0]:.4f}–{row.ci[1]:.4f})"  # noqa: RUF001
            return f"{row.value:.4f}{ci}"
    return "-"
