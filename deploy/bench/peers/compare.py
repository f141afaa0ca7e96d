"""The comparison: each contender alone on the machine, started anew in every round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from deploy.bench.load import Load, LoadError, Target, offer
from deploy.bench.measured import Measured
from deploy.bench.peers.contenders import Contender, Started
from deploy.bench.progress import counting

TUNED_AT = 64
"""Calls in flight at which settings are chosen: where the ratios are told."""
SETTLE_S = 1.5
SETTLED = 1.1
"""It has settled when it gets faster by no more than this."""
MOST_SETTLING = 6
START_S = 10.0
"""About what starting and ending take, for the bar."""
CELL_S = 2.5 * SETTLE_S
"""About what settling takes."""


@dataclass(frozen=True)
class Cell:
    """What is measured once a round."""

    target: str
    in_flight: int


@dataclass(eq=False)
class Found:
    """What the rounds have found so far."""

    cells: dict[Cell, list[Measured]] = field(default_factory=dict)
    cpu_ms: dict[Cell, list[float]] = field(default_factory=dict)
    """Processor time that a call takes on average, without that of h2load."""
    differences: dict[str, float] = field(default_factory=dict)
    """By contender: how far its answers are off at most, relative to onnxruntime's."""
    memory_mb: dict[str, float] = field(default_factory=dict)
    """By contender: at most, after load."""


def tune(console: Console, tried: Sequence[Contender], seconds: float) -> list[float]:
    """Returns how many calls a second each of the contenders answers."""
    rates, takes_s = [], START_S + CELL_S + seconds
    with counting(console, "choosing settings", len(tried) * takes_s) as tell:
        for contender in tried:
            tell(f"choosing settings: {contender.title}", 0.0)
            with ready(contender) as started:
                (target,) = started.targets
                settle(target, TUNED_AT)
                rates.append(offer(target, Load(TUNED_AT, duration_s=seconds)).rps)
            tell("choosing settings", takes_s)
    return rates


def measure_rounds(
    console: Console,
    contenders: Sequence[Contender],
    in_flight: Sequence[int],
    *,
    n_rounds: int,
    seconds: float,
) -> Found:
    """Returns everything that was measured, once a round; every other round goes backwards."""
    found = Found()
    takes_s = START_S + len(in_flight) * (CELL_S + seconds)
    with counting(console, "comparing", n_rounds * len(contenders) * takes_s) as tell:
        for number in range(n_rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                doing = f"round {number + 1} of {n_rounds}: {contender.title}"
                tell(doing, 0.0)
                with ready(contender) as started:
                    tell(doing, START_S)
                    for target in started.targets:
                        for calls in in_flight:
                            settle(target, calls)
                            load = Load(calls, duration_s=seconds)
                            before = started.cpu_s()
                            measured = offer(target, load)
                            taken_s = started.cpu_s() - before
                            cell = Cell(target.name, calls)
                            found.cells.setdefault(cell, []).append(measured)
                            found.cpu_ms.setdefault(cell, []).append(
                                cpu_ms_of_a_call(taken_s, measured, load)
                            )
                    _note(found.memory_mb, contender.name, started.memory_mb())
                    _note(found.differences, contender.name, started.verify())
                tell(doing, takes_s - START_S)
    return found


def cpu_ms_of_a_call(taken_s: float, measured: Measured, load: Load) -> float:
    """Returns the processor time of a call; calls of the warm-up have taken their part of it."""
    n_calls = measured.offered_rps * (load.warm_up_s + load.duration_s)
    return taken_s / n_calls * 1_000 if n_calls else 0.0


def _note(greatest: dict[str, float], name: str, value: float) -> None:
    greatest[name] = max(greatest.get(name, 0.0), value)


@contextmanager
def ready(contender: Contender) -> Iterator[Started]:
    """Starts a contender and checks its answers."""
    with contender.start() as started:
        started.verify()
        yield started


def settle(
    target: Target, in_flight: int, measure: Callable[[Target, Load], Measured] = offer
) -> None:
    """Offers load until it is answered no faster than before.

    Some servers answer before all of their processes do, and some adapt to the load that they had.
    Raises LoadError when nothing is answered.
    """
    load, before = Load(in_flight, duration_s=SETTLE_S, warm_up_s=0.0), 0.0
    for _ in range(MOST_SETTLING):
        try:
            rps = measure(target, load).rps
        except LoadError:
            time.sleep(1.0)
            continue
        if rps <= before * SETTLED:
            return
        before = rps
    if not before:
        raise LoadError(f"{target.name} at {target.url} answers no load")
