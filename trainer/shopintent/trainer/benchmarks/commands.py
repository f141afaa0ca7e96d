"""`shopintent-trainer benchmark`: a table of our models beside their baselines, by one command."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markdown import Markdown
from rich.markup import escape

from shopintent.trainer.config import TrainConfig
from shopintent.trainer.console import (
    HoldoutFrom,
    console,
    explained,
    progress_bars,
    unix_time,
)

if TYPE_CHECKING:
    from shopintent.trainer.benchmarks.intent import IntentBenchmark
    from shopintent.trainer.evaluation.sections import Report

app = typer.Typer(
    help="Run a named benchmark: our models beside their baselines, on data others publish on. "
    "The data sets are read from $SHOPINTENT_BENCHMARK_DATA (default ../shared/data); results go "
    "to build/benchmarks/NAME: metrics.json and report.html.",
    no_args_is_help=True,
)
BUILD = Path("build/benchmarks")
DEFAULT = TrainConfig()
Out = Annotated[
    Path | None, typer.Option(help="Folder to write to. Default: build/benchmarks/NAME.")
]
Seeds = Annotated[int, typer.Option(min=1, help="How many fits of ours, a seed each.")]
FirstSeed = Annotated[int, typer.Option(help="The first of the seeds.")]
MaxMinutes = Annotated[float, typer.Option(min=0.1, help="What one fit of ours may take.")]


@app.command()
@explained
def beauty(
    out: Out = None,
    seeds: Seeds = 1,
    first_seed: FirstSeed = DEFAULT.seed,
    peers: Annotated[
        bool, typer.Option(help="Train RecTools' SASRec too: needs `make peers`, takes longest.")
    ] = True,
    peer_minutes: Annotated[
        float, typer.Option(min=0.1, help="What RecTools may take for one table.")
    ] = 20.0,
) -> None:
    """Next product on Amazon Beauty: leave-one-out, by time, and products nobody trained on."""
    from shopintent.trainer.benchmarks.beauty import BeautyConfig, run_beauty

    config = BeautyConfig(seeds=tuple(range(first_seed, first_seed + seeds)), peers=peers)
    rectools = replace(config.rectools, max_minutes=peer_minutes)
    folder = out or BUILD / "beauty"
    with progress_bars() as progress:
        report = run_beauty(folder, replace(config, rectools=rectools), progress)
    show(folder, report)


@app.command()
@explained
def taobao(
    out: Out = None,
    seeds: Seeds = 1,
    first_seed: FirstSeed = DEFAULT.seed,
    max_minutes: MaxMinutes = DEFAULT.max_minutes,
    holdout_from: HoldoutFrom = None,
) -> None:
    """Purchase intent on Taobao, the days from 2017-12-02 (Beijing) on held out."""
    from shopintent.trainer.benchmarks.intent import TAOBAO

    run(TAOBAO, out, seeds, first_seed, max_minutes, holdout_from)


@app.command()
@explained
def rees46(
    out: Out = None,
    seeds: Seeds = 1,
    first_seed: FirstSeed = DEFAULT.seed,
    max_minutes: MaxMinutes = DEFAULT.max_minutes,
    holdout_from: HoldoutFrom = None,
) -> None:
    """Purchase intent on REES46's multi-category store, the last half hour of the log held out."""
    from shopintent.trainer.benchmarks.intent import REES46

    run(REES46, out, seeds, first_seed, max_minutes, holdout_from)


@app.command()
@explained
def uci(
    out: Out = None, seed: FirstSeed = DEFAULT.seed, max_minutes: MaxMinutes = DEFAULT.max_minutes
) -> None:
    """When and how much a shopper buys next, on two years of a gift shop's invoices."""
    from shopintent.trainer.benchmarks.uci import UciConfig, run_uci

    config = UciConfig()
    own = replace(config.train, seed=seed, max_minutes=max_minutes)
    folder = out or BUILD / "uci"
    with progress_bars() as progress:
        report = run_uci(folder, replace(config, train=own), progress)
    show(folder, report)


@app.command("update")
@explained
def update_benchmark(
    out: Out = None,
    seed: FirstSeed = DEFAULT.seed,
    shoppers: Annotated[int, typer.Option(min=100, help="Of the simulated shop.")] = 1_200,
    max_minutes: MaxMinutes = DEFAULT.max_minutes,
) -> None:
    """A release, its update by a new season, and training anew on everything, judged alike.

    The shop is simulated: the figures compare them, and say nothing of real shoppers.
    """
    from shopintent.trainer.benchmarks.update import UpdateBenchmark, run_update, table

    config = UpdateBenchmark()
    config = replace(
        config,
        shop=replace(config.shop, seed=seed, n_shoppers=shoppers),
        train=replace(config.train, seed=seed, max_minutes=max_minutes),
        update=replace(config.update, seed=seed, max_minutes=max_minutes),
    )
    folder = out or BUILD / "update"
    with progress_bars() as progress:
        result = run_update(folder, config, progress)
    show(folder, result.report)
    (folder / "update.md").write_text(table(result) + "\n", encoding="utf-8")
    console.print(Markdown(table(result)))


@app.command()
@explained
def speed(
    out: Out = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="What each trainer may train.")] = 1.75,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each; they take turns.")] = 2,
    width: Annotated[int, typer.Option(min=1, help="Width of everybody's network.")] = 64,
    more: Annotated[
        bool, typer.Option("--more", help="The others also in bfloat16 and without padding.")
    ] = False,
) -> None:
    """Seconds an epoch, and to the same NDCG, beside RecTools and RecBole: needs `make peers`.

    Everybody trains on Amazon Beauty at once, in turns of some seconds. The rest of the machine
    should be quiet.
    """
    from shopintent.trainer.benchmarks.speed import MORE_SYSTEMS, SpeedConfig, run_speed, table
    from shopintent.trainer.evaluation.rows import write_metrics

    config = SpeedConfig(minutes=minutes)
    config = replace(
        config,
        engine=replace(config.engine, n_threads=threads, width=width),
        systems=(*config.systems, *(MORE_SYSTEMS if more else ())),
    )
    folder = out or BUILD / "speed"
    with progress_bars() as progress:
        result = run_speed(folder, config, progress)
    written = write_metrics(folder, result.protocol, result.rows)
    console.print(Markdown(table(result)))
    console.print(f"the curves and all figures are in [bold]{escape(str(written))}[/]")


def run(
    benchmark: IntentBenchmark,
    out: Path | None,
    seeds: int,
    first_seed: int,
    max_minutes: float,
    holdout_from: datetime | None,
) -> None:
    """Runs a benchmark of purchase intent and shows what it found."""
    from shopintent.trainer.benchmarks.intent import run_intent

    cut = benchmark.holdout_from if holdout_from is None else unix_time(holdout_from)
    config = replace(DEFAULT, holdout_from=cut, max_minutes=max_minutes)
    configs = [replace(config, seed=first_seed + n) for n in range(seeds)]
    folder = out or BUILD / benchmark.name
    with progress_bars() as progress:
        report = run_intent(benchmark, folder, configs, progress)
    show(folder, report)


def show(folder: Path, report: Report) -> None:
    """Writes the report and prints its main tables."""
    from shopintent.trainer.evaluation.markdown import write_tables
    from shopintent.trainer.evaluation.report import console_tables, write_report

    write_report(folder, report)
    write_tables(folder, report)
    for table in console_tables(report):
        console.print(table)
    console.print(f"metrics.json, tables.md and report.html are in [bold]{escape(str(folder))}[/]")
