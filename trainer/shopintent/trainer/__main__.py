"""`shopintent-trainer`: from a shop's logs to a release that the server can serve."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.manifest import FLOAT32, INT8
from shopintent.trainer.benchmarks.commands import app as benchmark_app
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.console import (
    HoldoutFrom,
    console,
    explained,
    progress_bars,
    unix_time,
)
from shopintent.trainer.update.command import update

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog="A first release: `simulate`, `prepare`, `train`, `evaluate`, `publish`, in this order. "
    "Later ones: `prepare` the event log, `update`, `evaluate`, `publish`.",
)
app.add_typer(benchmark_app, name="benchmark")
DEFAULT = TrainConfig()


class Precision(StrEnum):
    """Of a served model's weights."""

    FLOAT32 = FLOAT32
    INT8 = INT8


@app.command()
@explained
def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write the shop's export to.")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same shop.")] = 7,
    shoppers: Annotated[int, typer.Option(min=1, help="How many shoppers.")] = 2_400,
    products: Annotated[int, typer.Option(min=1, help="How many products.")] = 2_000,
    days: Annotated[int, typer.Option(min=1, help="How many days of log.")] = 28,
    season: Annotated[
        int,
        typer.Option(
            min=1,
            help="The second goes on where the first ended: the same shoppers with other tastes, "
            "new products and categories. Data for `update`.",
        ),
    ] = 1,
) -> None:
    """Simulate a shop: a catalog and logs with visits, searches, orders, bots and dirt.

    Example: `shopintent-trainer simulate --out shop`, then `prepare shop --mapping
    shop/mapping.toml`.
    """
    from shopintent.trainer.data import SimulationConfig
    from shopintent.trainer.data import simulate as simulate_shop

    config = SimulationConfig(
        seed=seed, n_shoppers=shoppers, n_products=products, days=days, season=season
    )
    with progress_bars() as progress:
        simulate_shop(out, config, progress)
    console.print(f"a simulated shop of {shoppers:,} shoppers is in [bold]{escape(str(out))}[/]")


@app.command()
@explained
def inspect(
    log: Annotated[Path, typer.Argument(help="A log file, or a folder of them.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write the draft of a mapping to.")
    ] = None,
) -> None:
    """Show the columns of a log and draft the mapping that `prepare` needs.

    The draft comes from names and first values. Read it, correct it, then run `prepare`.
    """
    from shopintent.trainer.data import MappingError
    from shopintent.trainer.data.draft import draft_mapping, mapping_name, roles_of
    from shopintent.trainer.data.samples import log_files, take_sample

    samples = [take_sample(path) for path in log_files(log)]
    for sample in samples:
        taken = {column: role for role, column in roles_of(sample).items()}
        table = Table("column", "filled", "different", "examples", "looks like")
        for column, values in sample.columns.items():
            different = list(dict.fromkeys(values))
            examples = ", ".join(each[:24] for each in different[:3])
            filled = f"{len(values) / max(sample.n_records, 1):.0%}"
            cells = (column, filled, f"{len(different):,}", examples, taken.get(column, ""))
            table.add_row(*map(escape, cells))
        console.print(f"[bold]{escape(sample.path.name)}[/], first {sample.n_records:,} records")
        console.print(table)
    draft = draft_mapping(samples, mapping_name(log))
    if out is None:
        console.print(Syntax(draft, "toml", word_wrap=True))
        return
    if out.exists():
        raise MappingError(f"{out}: exists; give another file, or remove it.")
    out.write_text(draft, encoding="utf-8")
    console.print(f"a draft of the mapping is in [bold]{escape(str(out))}[/]: check it")


@app.command()
@explained
def prepare(
    log: Annotated[
        str,
        typer.Argument(
            help="A log file, or a folder of them; with `--mapping events` the event log of the "
            "servers, or redis://HOST:PORT/0, where their sessions are."
        ),
    ],
    mapping: Annotated[
        str,
        typer.Option(
            help="A mapping file (`inspect` drafts one), or a shipped one: taobao, rees46, "
            "simulated; or events, for what servers logged."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the prepared dataset to.")],
    products: Annotated[
        Path | None,
        typer.Option(
            help="With `--mapping events`: a prepared dataset whose products are known, too, such "
            "as the one that the serving release was trained on."
        ),
    ] = None,
) -> None:
    """Merge, clean, cut into visits and label a log of CSV, JSONL or Parquet files.

    The mapping says which columns hold what; the README explains its keys. Every dropped row is
    counted by reason in report.md.
    """
    from shopintent.trainer.data import Dataset, MappingError, load_mapping
    from shopintent.trainer.data import prepare as prepare_log
    from shopintent.trainer.data.event_log import EVENTS, prepare_events
    from shopintent.trainer.data.prepared import REPORT_TEXT_FILE

    if products is not None and mapping != EVENTS:
        raise MappingError("--products: is for --mapping events; name a [catalog] in the mapping.")
    with progress_bars() as progress:
        if mapping == EVENTS:
            earlier = None if products is None else Dataset.open(products)
            dataset = prepare_events(log, out, progress, earlier=earlier)
        else:
            dataset = prepare_log(Path(log), load_mapping(mapping), out, progress)
    console.print(Markdown((out / REPORT_TEXT_FILE).read_text(encoding="utf-8")))
    console.print(
        f"{dataset.info.n_events:,} events are ready to train on in [bold]{escape(str(out))}[/]"
    )


@app.command()
@explained
def train(
    data: Annotated[Path, typer.Argument(help="A prepared dataset, from `prepare`.")],
    out: Annotated[Path, typer.Option(help="Folder to write the run to.")],
    holdout_days: Annotated[
        float | None,
        typer.Option(help="Hold out the last days. Default: the newest 20 % of the events."),
    ] = None,
    holdout_from: HoldoutFrom = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = DEFAULT.seed,
    max_epochs: Annotated[int, typer.Option(min=1)] = DEFAULT.max_epochs,
    max_minutes: Annotated[
        float, typer.Option(help="Stop after this long and keep the best epoch.")
    ] = DEFAULT.max_minutes,
    d_model: Annotated[int, typer.Option(help="Width, and size of embeddings.")] = DEFAULT.d_model,
    n_layers: Annotated[int, typer.Option(min=1)] = DEFAULT.n_layers,
    dropout: Annotated[float, typer.Option(min=0, max=0.9)] = DEFAULT.dropout,
    learning_rate: Annotated[float, typer.Option(min=1e-6)] = DEFAULT.learning_rate,
    max_events: Annotated[
        int, typer.Option(min=4, help="How many of a shopper's last events the model reads.")
    ] = DEFAULT.max_events,
    text_encoder: Annotated[
        str, typer.Option(help="A sentence-transformers name or folder.")
    ] = DEFAULT.text_encoder,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where a killed training would go on.")
    ] = False,
) -> None:
    """Train the network on everything before the held-out time, on a GPU where there is one.

    A training that was killed goes on by the same command, to the very same result: it keeps a
    checkpoint in OUT, which it refuses to mix with other settings or data. Curves of losses,
    validation and speed are in OUT/tensorboard (`pip install tensorboard`, then `tensorboard
    --logdir OUT`).
    """
    from shopintent.trainer.data import Dataset
    from shopintent.trainer.train import train as train_run

    config = replace(
        DEFAULT, holdout_days=holdout_days,
        holdout_from=None if holdout_from is None else unix_time(holdout_from),
        seed=seed, max_epochs=max_epochs, max_minutes=max_minutes, d_model=d_model,
        n_layers=n_layers, dropout=dropout, learning_rate=learning_rate,
        max_events=max_events, text_encoder=text_encoder,
    )  # fmt: skip
    with progress_bars() as progress:
        run = train_run(Dataset.open(data), config, out, progress, restart=restart)
    epochs, best = len(run.info.history), run.info.best_epoch + 1
    console.print(
        f"trained {epochs} epochs, the best was number {best}: [bold]{escape(str(out))}[/]"
    )


@app.command()
@explained
def evaluate(
    run: Annotated[Path, typer.Argument(help="A training run, from `train`.")],
    data: Annotated[
        Path | None, typer.Option(help="A prepared dataset. Default: the one it was trained on.")
    ] = None,
    ablation: Annotated[
        bool,
        typer.Option(help="Judge the parts of the purchase head alone too; takes a minute or so."),
    ] = False,
) -> None:
    """Judge a run on visits it never saw, beside its baselines; with plots, in RUN/evaluation."""
    from shopintent.trainer.data import Dataset
    from shopintent.trainer.evaluation.evaluate import evaluate as evaluate_run
    from shopintent.trainer.evaluation.report import console_tables, write_report
    from shopintent.trainer.run import Run

    opened = Run.open(run)
    dataset = Dataset.open(data or Path(opened.info.dataset))
    with progress_bars() as progress:
        report = evaluate_run(opened, dataset, progress, ablation=ablation)
        folder = run / "evaluation"
        write_report(folder, report)
    for table in console_tables(report):
        console.print(table)
    console.print(
        f"[bold]{escape(str(folder / 'report.html'))}[/] has all tables and plots, "
        f"[bold]{escape(str(folder / 'metrics.json'))}[/] every number"
    )


@app.command()
@explained
def publish(
    run: Annotated[Path, typer.Argument(help="A training run, from `train`.")],
    to: Annotated[
        str,
        typer.Option(
            help="The releases root, where the server looks: a folder, or a URL such as "
            "s3://bucket/shop (needs `shopintent[s3]`) or gs://bucket/shop (`shopintent[gcs]`)."
        ),
    ],
    release: Annotated[
        str | None, typer.Option(help="An id of a-z, 0-9 and '-'. Default: by time and tokenizer.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A prepared dataset. Default: the one it was trained on.")
    ] = None,
    promote: Annotated[
        bool | None,
        typer.Option(
            "--promote/--no-promote",
            help="Whether all traffic goes to it at once. Default: only to a root's first release.",
        ),
    ] = None,
    force: Annotated[
        str | None,
        typer.Option(help="Publish although gates fail; the reason, which the release keeps."),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Of the intent model's weights. int8 is judged on held-out requests beside "
            "float32, and refused where it loses more than a margin."
        ),
    ] = Precision.FLOAT32,
) -> None:
    """Turn a run into a release: models, tokenizers, product vectors and golden requests.

    All or nothing; an existing release never changes. Exported graphs are compared with the
    network, and what `evaluate` measured has to pass its gates. Every file is listed by hash in
    the manifest, and verified before a server uses it.
    """
    from shopintent.trainer.data import Dataset
    from shopintent.trainer.publish import new_release_id, publish_to_url
    from shopintent.trainer.publish import publish as publish_run
    from shopintent.trainer.publish_report import summary
    from shopintent.trainer.run import Run

    opened = Run.open(run)
    dataset = Dataset.open(data or Path(opened.info.dataset))
    release_id = release or new_release_id(opened)
    with progress_bars() as progress:
        if "://" in to:
            published = publish_to_url(
                opened, dataset, to, release_id, progress,
                force=force, promote=promote, precision=precision,
            )  # fmt: skip
        else:
            published = publish_run(
                opened, dataset, ReleasesRoot(Path(to)), release_id, progress,
                force=force, promote=promote, precision=precision,
            )  # fmt: skip
    console.print(summary(published, to))


app.command()(update)


def main() -> None:
    """Runs the command line."""
    # The text encoder is found on disk; its libraries need not draw bars or ask a hub.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()


if __name__ == "__main__":
    main()
