"""`shopintent-trainer update`: the release that serves, gone on from with what happened since."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from shopintent.trainer.console import console, explained, progress_bars
from shopintent.trainer.update.config import UpdateConfig, UpdateError

if TYPE_CHECKING:
    from shopintent.trainer.update.refresh import Updated
    from shopintent.trainer.update.verdict import Change

DEFAULT = UpdateConfig()


@explained
def update(
    releases: Annotated[
        str,
        typer.Option(
            help="The releases root whose serving release is updated: a folder, or a URL as "
            "`publish` takes it. Nothing else of the old training is needed."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="A prepared dataset with new events, such as `prepare EVENT-LOG --mapping "
            "events` makes."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the run to.")],
    replay: Annotated[
        Path | None,
        typer.Option(
            help="A prepared dataset with old events: the one that the release was trained on. "
            "Default: DATA, where it goes back far enough."
        ),
    ] = None,
    replay_ratio: Annotated[
        float,
        typer.Option(min=0, help="Old events learned from again for each new one, by shopper."),
    ] = DEFAULT.replay_ratio,
    max_old_loss: Annotated[
        float,
        typer.Option(
            min=0,
            help="How much worse old visits may be answered, as a share: 0.02 is 2 %.",
        ),
    ] = DEFAULT.max_old_loss,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = DEFAULT.seed,
    max_epochs: Annotated[int, typer.Option(min=1)] = DEFAULT.max_epochs,
    max_minutes: Annotated[
        float, typer.Option(help="Stop after this long and keep the best epoch.")
    ] = DEFAULT.max_minutes,
    learning_rate: Annotated[
        float, typer.Option(min=1e-6, help="Lower than that of `train`.")
    ] = DEFAULT.learning_rate,
    holdout_share: Annotated[
        float,
        typer.Option(min=0.05, max=0.5, help="The newest share of the new events only judges."),
    ] = DEFAULT.holdout_share,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where a killed update would go on.")
    ] = False,
) -> None:
    """Teach the release that serves what happened since, and see that it forgets nothing.

    Old events are learned again beside the new ones. New products, categories and brands get ids
    behind those there are; codebook, price buckets and text encoder stay, until you `train` anew.
    The update and the release then answer the same requests: of the time that the release was held
    out from, and of the newest. Where the former got worse by more than --max-old-loss, there is
    no run, so that nothing can be published, and the exit status is 1. OUT/update has report.html
    and metrics.json either way.

    Example: `shopintent-trainer update --releases releases --data prepared --out runs/update`, then
    `evaluate runs/update` and `publish runs/update --to releases`.
    """
    from shopintent.trainer.data import Dataset
    from shopintent.trainer.update.refresh import REPORT
    from shopintent.trainer.update.refresh import update as update_release

    config = UpdateConfig(
        seed=seed, replay_ratio=replay_ratio, learning_rate=learning_rate, max_epochs=max_epochs,
        max_minutes=max_minutes, holdout_share=holdout_share, max_old_loss=max_old_loss,
    )  # fmt: skip
    old = None if replay is None else Dataset.open(replay)
    with progress_bars() as progress:
        updated = update_release(
            releases, Dataset.open(data), old, config, out, progress, restart=restart
        )
    console.print(summary(updated))
    for event_type, n_events in updated.unknown_types.items():
        console.print(
            f"{n_events:,} events of type {escape(event_type)} were left out, since the release "
            "never learned them: `train` anew to learn them"
        )
    console.print(f"[bold]{escape(str(out / REPORT / 'report.html'))}[/] has every table")
    if updated.refusals:
        raise UpdateError(
            f"refused, so that nothing can be published: {'; '.join(updated.refusals)}. Replay "
            "more (--replay-ratio), learn more slowly (--learning-rate), `train` anew on "
            f"{out / 'dataset'}, or allow more with --max-old-loss"
        )
    console.print(f"the update is ready to publish: [bold]{escape(str(out))}[/]")


def summary(updated: Updated) -> Table:
    """Returns what became better and worse, on old requests and on the newest."""
    from shopintent.trainer.update.verdict import NEWEST, OLD, changes

    table = Table(title=f"update of release {updated.serving.release_id}", title_justify="left")
    for name in ("", "requests", "serving", "updated", "better by", "95 % of the difference"):
        table.add_column(name, justify="left" if name in ("", "requests") else "right")
    for name in (OLD, NEWEST):
        for change in changes(updated.report.rows, name):
            table.add_row(*cells(change, name))
        table.add_section()
    return table


def cells(change: Change, name: str) -> tuple[str, ...]:
    """Returns one line of the summary."""
    ci = None if change.difference is None else change.difference.ci
    between = "too few to tell" if ci is None else f"{ci[0]:+.4f} to {ci[1]:+.4f}"
    return (
        change.row.name, name, f"{change.serving:.4f}", f"{change.row.value:.4f}",
        f"{-change.loss:+.1%}", between,
    )  # fmt: skip
