"""Next product on Amazon Beauty, the benchmark that most papers on the task report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.benchmarks.next_product import (
    baselines,
    last_product_task,
    our_scorer,
    rankings,
    text_only,
    without,
)
from shopintent.trainer.benchmarks.sources import BenchmarkError, source
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data import Dataset, load_mapping, prepare
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.baselines.rectools import RecToolsConfig, fit_rectools
from shopintent.trainer.evaluation.next_product import TIE_ORDER, NextProductTask, Scorer
from shopintent.trainer.evaluation.ranking import ProductContent, ranking_rows
from shopintent.trainer.evaluation.sections import Report
from shopintent.trainer.fit_network import FittedNetwork, fit_network
from shopintent.trainer.peers.process import PeersError
from shopintent.trainer.splits import LeaveOneOut, Split, TimeSplit
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import (
    Inputs,
    actions,
    load_catalog,
    load_inputs,
    newest_share_from,
)

SOURCE = "amazon-beauty-5core"
COUNTS = (22_363, 12_101, 198_502)
"""Shoppers, products and events of the S3-Rec 5-core; others of the name are not comparable."""
HELD_OUT_SHARE = 0.1
"""Of the reviews, the newest, in the split by time."""
WITHHELD_SHARE = 0.1
"""Of the products, at random, that no training sees in the table of cold products."""
WITHHELD = "withheld-products"
COLD_ID_DROPOUT = 0.15
"""Where products are withheld, training must learn to do without ids."""
CONFIG = TrainConfig(
    d_model=128, max_events=50, id_dropout=0.0, weight_decay=0.0, max_minutes=20.0, patience=4
)


@dataclass(frozen=True)
class BeautyConfig:
    """What the benchmark may spend."""

    seeds: tuple[int, ...] = (7,)
    """Fits of ours with leave-one-out; the other tables are of the first seed."""
    peers: bool = True
    """Whether RecTools' SASRec is trained too, which takes most of the time."""
    train: TrainConfig = CONFIG
    rectools: RecToolsConfig = field(default_factory=RecToolsConfig)


def run_beauty(folder: Path, config: BeautyConfig, on_progress: Progress) -> Report:
    """Runs all tables. Raises BenchmarkError when the data set is missing."""
    dataset = prepare_beauty(folder, on_progress)
    cut = newest_share_from(dataset, HELD_OUT_SHARE, before=dataset.info.observed_until + 1)
    validate_from = newest_share_from(dataset, config.train.validation_share, before=cut)
    rows, notes = [], {}
    for split, seeds in (
        (LeaveOneOut(), config.seeds),
        (TimeSplit(validate_from, cut), config.seeds[:1]),
    ):
        told, noted = judge(dataset, split, seeds, folder, config, on_progress)
        rows += told
        notes[split.name] = noted
    told, notes["withheld-products"] = judge_withheld(dataset, folder, config, on_progress)
    rows += told
    info = dataset.info
    protocol = {
        "benchmark": "beauty",
        "data": "Amazon Beauty 2014, 5-core of S3-Rec, one event type",
        "shoppers": info.n_shoppers,
        "products": info.n_products,
        "events": info.n_events,
        "history": config.train.max_events,
        "ranked": "the whole catalog",
        "ties": TIE_ORDER,
        "request_time": "right after the last event known; the target's own time is not known",
        "leave-one-out": "the last event of every shopper, the one before it tells when to stop",
        "time": f"the last event of shoppers who did anything from {cut} (unix) on, with all that "
        "they did before it; no event from then on is learned from",
        "withheld-products": f"leave-one-out requests for {WITHHELD_SHARE:.0%} of the products, "
        "drawn at random, all of whose events every training is kept from",
        "seeds": list(config.seeds),
        "models": notes,
    }
    return Report(
        title="Amazon Beauty: next product",
        summary="Every shopper's last review, foretold from those before it, among all products.",
        protocol=protocol,
        rows=rows,
    )


def judge(
    dataset: Dataset,
    split: Split,
    seeds: Sequence[int],
    folder: Path,
    config: BeautyConfig,
    on_progress: Progress,
) -> tuple[list[MetricRow], dict[str, Any]]:
    """Returns the rows of one split, with and without the seen-filter, and notes on the fits."""
    fits = [
        fit_network(dataset, split, own, folder / f"{split.name}-{own.seed}", on_progress)
        for own in (replace(config.train, seed=seed) for seed in seeds)
    ]
    inputs = fits[0].inputs
    task = last_product_task(inputs.sequences, split, len(inputs.product_ids))
    scorers: list[tuple[Scorer, int | None]] = [
        (our_scorer(fit, fit.inputs, task, on_progress), seed)
        for fit, seed in zip(fits, seeds, strict=True)
    ]
    scorers.append((text_only(inputs, task), None))
    scorers += [(each, None) for each in baselines(task, seeds[0], on_progress, seen_filter=True)]
    notes: dict[str, Any] = {
        f"shopintent, seed {s}": note(f) for s, f in zip(seeds, fits, strict=True)
    }
    scorers += rectools(task, config, notes, on_progress)
    return judged(task, scorers, inputs, on_progress), notes


def judge_withheld(
    dataset: Dataset, folder: Path, config: BeautyConfig, on_progress: Progress
) -> tuple[list[MetricRow], dict[str, Any]]:
    """Returns the rows of products that no training knew, and notes on the fits."""
    split, seed = LeaveOneOut(), config.seeds[0]
    ids = dataset.product_table().select("product_id").collect()["product_id"]
    drawn = np.random.default_rng(seed).random(len(ids)) < WITHHELD_SHARE
    withheld = set(ids.filter(pl.Series(drawn)).to_list())
    smaller = prepare_beauty(folder / "withheld", on_progress, withheld)
    own = replace(config.train, seed=seed, id_dropout=COLD_ID_DROPOUT)
    fit = fit_network(smaller, split, own, folder / "withheld" / "run", on_progress)
    catalog = load_catalog(dataset, split.learned())
    inputs = load_inputs(
        dataset,
        fit.tokenizer,
        TextEncoder.open(folder / "withheld" / "run"),
        catalog,
        actions(dataset),
        on_progress,
    )
    hidden = np.array([each in withheld for each in inputs.product_ids])
    task = without(last_product_task(inputs.sequences, split, len(inputs.product_ids)), hidden)
    scorers: list[tuple[Scorer, int | None]] = [
        (our_scorer(fit, inputs, task, on_progress), seed),
        (text_only(inputs, task), None),
        *((each, None) for each in baselines(task, seed, on_progress, seen_filter=True)),
    ]
    notes = {"shopintent": note(fit)}
    # A model of ids has no vector for these products however long it trains: an epoch will do.
    brief = replace(config, rectools=replace(config.rectools, max_epochs=1))
    scorers += rectools(task, brief, notes, on_progress)
    rows = judged(task, scorers, inputs, on_progress)
    return [replace(row, slice=WITHHELD) for row in rows if row.slice == "all"], notes


def judged(
    task: NextProductTask,
    scorers: Sequence[tuple[Scorer, int | None]],
    inputs: Inputs,
    on_progress: Progress,
) -> list[MetricRow]:
    """Returns the rows of all scorers, with and without the seen-filter."""
    content = ProductContent(inputs.text_embeddings, np.zeros(task.n_products, np.int64))
    rows = []
    for seen_filter in (True, False):
        ranked = rankings(task, scorers, on_progress, seen_filter=seen_filter)
        rows += ranking_rows(task, ranked, content)
    return rows


def rectools(
    task: NextProductTask, config: BeautyConfig, notes: dict[str, Any], on_progress: Progress
) -> list[tuple[Scorer, int | None]]:
    """Returns RecTools' SASRec where it is set up; the notes say what it did or why it did not."""
    if not config.peers:
        notes["rectools-sasrec"] = "not asked for"
        return []
    try:
        fitted = fit_rectools(task, config.rectools, on_progress, seen_filter=True)
    except PeersError as error:
        notes["rectools-sasrec"] = f"not trained: {error}"
        return []
    notes["rectools-sasrec"] = {
        "versions": list(fitted.versions), "epochs": len(fitted.history),
        "best_epoch": int(np.argmax(fitted.history)) + 1,
        "validation_ndcg": max(fitted.history),
    }  # fmt: skip
    return [(fitted, config.rectools.engine.seed)]


def note(fit: FittedNetwork) -> dict[str, Any]:
    """Returns how a fit of ours went."""
    return {
        "epochs": len(fit.history),
        "best_epoch": fit.best_epoch + 1,
        "validation_ndcg": fit.history[fit.best_epoch]["validation_ndcg"],
    }


def prepare_beauty(
    folder: Path, on_progress: Progress, withheld: frozenset[str] | set[str] = frozenset()
) -> Dataset:
    """Prepares the data set, without the products withheld.

    Raises BenchmarkError when it is missing or another Beauty.
    """
    log, original = folder / "log", source(SOURCE)
    log.mkdir(parents=True, exist_ok=True)
    kept = ~pl.col("item_id").cast(pl.String).is_in(list(withheld))
    reviews = pl.read_parquet(original / "interactions.parquet").sort("user_id", "position")
    # 48 reviewers have no times; the order of their reviews is known, and that is what counts.
    reviews = reviews.with_columns(pl.col("timestamp").fill_null(pl.col("timestamp").min()))
    reviews.filter(kept).write_parquet(log / "interactions.parquet")
    items = pl.read_parquet(original / "items.parquet", columns=["item_id", "title"])
    items.filter(kept).write_parquet(log / "items.parquet")
    dataset = prepare(log, load_mapping("beauty"), folder / "prepared", on_progress)
    info = dataset.info
    found = info.n_shoppers, info.n_products, info.n_events
    if not withheld and found != COUNTS:
        raise BenchmarkError(
            f"{original} has {found} shoppers, products and events, not {COUNTS}: "
            "this is another data set of the name"
        )
    return dataset
