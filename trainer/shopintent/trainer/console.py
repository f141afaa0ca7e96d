"""What commands share: progress bars, options, and errors that people can read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from shopintent.artifacts import ReleaseError
from shopintent.artifacts.routing import RoutingError
from shopintent.behavior import TokenizerError
from shopintent.trainer.data.progress import Progress

console = Console()

HoldoutFrom = Annotated[
    datetime | None,
    typer.Option(
        help="Hold out what happened from this time on (UTC where it names no zone).",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"],
    ),
]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Shows a bar for every step of a long piece of work."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(description: str, done: int, total: int) -> None:
            if description not in tasks:
                tasks[description] = bars.add_task(description, total=total)
            bars.update(tasks[description], completed=done, total=total)

        yield show


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """Turns what a user can mend into one line and exit status 1, without a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, FileNotFoundError) as error:
            if not isinstance(error, expected_errors()):
                raise
            line = " ".join(str(error).split())
            message = Text.assemble(("error: ", "bold red"), line)
            Console(stderr=True).print(message, soft_wrap=True)
            raise typer.Exit(1) from error

    return run


def expected_errors() -> tuple[type[Exception], ...]:
    """Returns the errors whose message says what to do."""
    from shopintent.trainer.benchmarks.sources import BenchmarkError
    from shopintent.trainer.checkpoint import CheckpointError
    from shopintent.trainer.data import DatasetError, MappingError, PrepareError
    from shopintent.trainer.data.simulate import SimulationError
    from shopintent.trainer.evaluation.evaluate import EvaluationError
    from shopintent.trainer.peers.process import PeersError
    from shopintent.trainer.publish import PublishError
    from shopintent.trainer.run import RunError
    from shopintent.trainer.text import TextEncoderError
    from shopintent.trainer.training_data import TrainingDataError
    from shopintent.trainer.update.config import UpdateError

    return (
        BenchmarkError, CheckpointError, DatasetError, EvaluationError, FileNotFoundError,
        MappingError, PeersError, PrepareError, PublishError, ReleaseError, RoutingError,
        RunError, SimulationError, TextEncoderError, TokenizerError, TrainingDataError, UpdateError,
    )  # fmt: skip


def unix_time(moment: datetime) -> int:
    """Returns unix seconds; a time without a zone is UTC."""
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
