"""Measures many loads in rounds, so that every noise of the machine meets all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console

from deploy.bench.load import Load, Target, offer
from deploy.bench.measured import Measured
from deploy.bench.progress import counting
from deploy.bench.results import Cell, Rounds
from deploy.bench.targets import Answer
from deploy.bench.verify import watching

START_S = 0.4
"""What a load takes besides its time."""


@dataclass(frozen=True)
class Planned:
    """What is offered to whom."""

    target: Target
    load: Load
    ask: Callable[[], Answer] | None = None
    """A call whose answer is looked at while the load runs."""

    @property
    def takes_s(self) -> float:
        return self.load.warm_up_s + self.load.duration_s + START_S


def measure_rounds(
    console: Console, what: str, planned: Mapping[Cell, Planned], n_rounds: int
) -> tuple[Rounds, Counter[Cell]]:
    """Returns what came back from every cell, a measurement a round, and the wrong answers.

    Every other round goes backwards, so that what gets slower or faster with time cancels out.
    """
    measured: dict[Cell, list[Measured]] = {cell: [] for cell in planned}
    wrong: Counter[Cell] = Counter()
    total_s = n_rounds * sum(each.takes_s for each in planned.values())
    with counting(console, what, total_s) as tell:
        for number in range(n_rounds):
            order = list(planned) if number % 2 == 0 else list(planned)[::-1]
            for cell in order:
                tell(f"{what}, round {number + 1} of {n_rounds}: {title(cell)}", 0.0)
                with watching(planned[cell].ask) as why:
                    measured[cell].append(offer(planned[cell].target, planned[cell].load))
                wrong[cell] += len(why)
                if why:
                    console.print(f"[yellow]{title(cell)}:[/] {why[0]}")
                tell(what, planned[cell].takes_s)
    return measured, wrong


def title(cell: Cell) -> str:
    """Returns the cell in words."""
    products = f", {cell.products:,} products" if cell.products else ""
    load = f"{cell.in_flight} in flight" if cell.in_flight else "at a rate"
    return f"{cell.target} {load}{products}"
