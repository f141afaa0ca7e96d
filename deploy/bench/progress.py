"""Shows how far a bench is, and how long it still takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Say = Callable[[str], None]


@contextmanager
def counting(console: Console, what: str, total_s: float) -> Iterator[Callable[[str, float], None]]:
    """Shows a bar; the block tells it what it does now and how many of its seconds are over."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total_s)

        def tell(doing: str, done_s: float) -> None:
            progress.update(task, description=doing, advance=done_s)

        yield tell
