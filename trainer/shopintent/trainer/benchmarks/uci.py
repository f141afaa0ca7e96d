"""How long until the next order, and how many units, on the invoices of UCI Online Retail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.benchmarks.sources import source
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data import load_mapping, prepare
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.baselines.expectation import NAME, fit_lightgbm_expectation
from shopintent.trainer.evaluation.bootstrap import describe
from shopintent.trainer.evaluation.purchase import Samples
from shopintent.trainer.evaluation.regression import Expected, order_rows, truths
from shopintent.trainer.evaluation.sections import Report
from shopintent.trainer.export import ServedIntent
from shopintent.trainer.predict import head_inputs, predict
from shopintent.trainer.prefixes import LEARNED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.run import Run
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.train import train
from shopintent.trainer.training_data import load_catalog, load_inputs

SOURCE = MAPPING = "uci-online-retail"
MODEL = "shopintent"
CONFIG = TrainConfig(holdout_days=180.0, max_minutes=4.0)
MAX_JUDGED = 30_000
"""Requests of the held-out time; of more these many are drawn."""


@dataclass(frozen=True)
class UciConfig:
    """What the benchmark may spend."""

    train: TrainConfig = CONFIG
    max_judged: int = MAX_JUDGED


def run_uci(folder: Path, config: UciConfig, on_progress: Progress) -> Report:
    """Prepares, trains and judges. Raises BenchmarkError when the data set is missing."""
    dataset = prepare(source(SOURCE), load_mapping(MAPPING), folder / "prepared", on_progress)
    run = train(dataset, config.train, folder / "run", on_progress)
    encoder = TextEncoder.open(run.folder)
    catalog = load_catalog(dataset, known_before(run.info.cut_time))
    inputs = load_inputs(dataset, run.tokenizer, encoder, catalog, run.info.actions, on_progress)
    sequences = inputs.sequences
    judged = prefixes_of(run, dataset, sequences, held_out=True)
    drawn = np.random.default_rng(config.train.seed).permutation(len(judged))
    judged = judged.take(drawn[: config.max_judged])
    served = ServedIntent(run.network, run.heads)
    behaviors, asked = judged.behaviors(sequences), judged.request_times
    said = predict(served, run.tokenizer, behaviors, asked, on_progress)
    ours = Expected(MODEL, said.time_to_purchase_s[:, 0], said.quantity[:, 0], run.info.config.seed)
    trees = boosted(run, dataset, sequences, judged, on_progress)
    return Report(
        title="UCI Online Retail: time to the next order and its units",
        summary="When each customer orders next and how much, foretold from the orders before.",
        protocol=protocol(run, dataset),
        rows=rows_of(run, dataset, sequences, judged, [ours, trees]),
        history=run.info.history,
        best_epoch=run.info.best_epoch,
    )


def prefixes_of(run: Run, dataset: Dataset, sequences: Sequences, *, held_out: bool) -> Prefixes:
    """Returns requests as a customer arrives and after lines of an order: held out, or before."""
    cut, until = run.info.cut_time, dataset.info.observed_until
    return visit_prefixes(
        sequences,
        lengths=LEARNED_LENGTHS,
        visits_from=cut if held_out else dataset.info.observed_from,
        visits_until=until + 1 if held_out else cut,
        observed_until=until if held_out else cut,
        horizons_s=run.info.horizons_s,
        session_gap_s=dataset.info.session_gap_s,
        cut_before_purchase=False,
    )


def boosted(
    run: Run,
    dataset: Dataset,
    sequences: Sequences,
    judged: Prefixes,
    on_progress: Progress,
) -> Expected:
    """Returns what LightGBM expects, which reads the features of ours but not its network."""
    learned = prefixes_of(run, dataset, sequences, held_out=False)
    drawn = np.random.default_rng(run.info.config.seed).permutation(len(learned))
    learned = learned.take(drawn[: run.info.config.max_prefixes])

    def features(prefixes: Prefixes) -> NDArray[np.float32]:
        behaviors, asked = prefixes.behaviors(sequences), prefixes.request_times
        inputs = head_inputs(run.network, run.heads, run.tokenizer, behaviors, asked, on_progress)
        return inputs[:, run.info.config.d_model :]

    known, asked_of = features(learned), features(judged)
    expected = []
    for truth in truths(
        sequences,
        learned,
        window_s=run.info.heads.purchase_window_s,
        observed_until=run.info.cut_time - 1,
    ):
        chosen = truth.known
        trees = fit_lightgbm_expectation(
            known[chosen], truth.values[chosen], learned.shoppers[chosen]
        )
        expected.append(np.asarray(trees.predict(asked_of)))
    time_s, quantity = expected
    return Expected(NAME, time_s, quantity)


def rows_of(
    run: Run, dataset: Dataset, sequences: Sequences, judged: Prefixes, said: list[Expected]
) -> list[MetricRow]:
    """Returns the errors of models and of guesses, of all customers and of new and old ones."""
    cut = run.info.cut_time
    cold = sequences.event_times[sequences.offsets[judged.shoppers]] >= cut
    slices = {"cold-shoppers": cold, "warm-shoppers": ~cold}
    return order_rows(
        Samples("time", judged.lengths, judged.shoppers, slices),
        sequences,
        prefixes_of(run, dataset, sequences, held_out=False),
        judged,
        said,
        window_s=run.info.heads.purchase_window_s,
        cut=cut,
        observed_until=dataset.info.observed_until,
    )


def protocol(run: Run, dataset: Dataset) -> dict[str, object]:
    """Returns what the numbers were measured by."""
    info = dataset.info
    window_s = run.info.heads.purchase_window_s
    return {
        "benchmark": "uci",
        "data": "UCI Online Retail I and II, lines of known customers, without returns",
        "shoppers": info.n_shoppers,
        "products": info.n_products,
        "events": info.n_events,
        "time": f"orders from {run.info.cut_time} (unix) on are held out, {info.observed_until} is "
        "the last",
        "order": "all that a customer buys at one time; what is left of an order that the request "
        "has seen the beginning of is not the next one",
        "requests": "as a customer arrives (prefix 0) and after so many lines of an order",
        "request_time": "the time of the last line known, for arrivals that of the order to come",
        "time_to_purchase": f"seconds to the next order, where it comes within {window_s:,} s and "
        "all of that time was observed; not asked as a customer arrives to order at once",
        "quantity": "units of the next order, where the log holds one",
        "intervals": describe(),
        "seed": run.info.config.seed,
    }
