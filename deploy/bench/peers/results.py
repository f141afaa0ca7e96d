"""The arithmetic of the comparison: from rounds to rows, and how we compare with the best peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from deploy.bench.measured import Measured
from deploy.bench.peers.behaviors import WITH_EVENTS
from deploy.bench.peers.compare import Cell
from deploy.bench.results import spread, summary
from deploy.bench.targets import PREDICT_INTENT

Cells = Mapping[Cell, Sequence[Measured]]


@dataclass(frozen=True)
class Row:
    """A target under a load, over all rounds: medians, and how far apart the rounds are."""

    target: str
    in_flight: int
    rps: float
    p50_ms: float
    p99_ms: float
    spread: float
    """(largest - smallest) / median of the rounds' rps."""
    cpu_ms: float
    """Processor time of a call, on average, in all processes of the target."""
    failed: int
    """Calls that were not answered, of all rounds."""


def rows(cells: Cells, cpu_ms: Mapping[Cell, Sequence[float]]) -> list[Row]:
    """Returns a row a cell: by calls in flight, then by target in the order they came."""
    return [
        Row(
            target=cell.target,
            in_flight=cell.in_flight,
            rps=round(median(each.rps for each in measured), 1),
            p50_ms=round(median(each.p50_ms for each in measured), 3),
            p99_ms=round(median(each.p99_ms for each in measured), 3),
            spread=round(spread([each.rps for each in measured]), 3),
            cpu_ms=round(median(cpu_ms[cell]), 3),
            failed=sum(each.n_failed for each in measured),
        )
        for cell, measured in sorted(cells.items(), key=lambda each: each[0].in_flight)
    ]


def best_peer(cells: Cells, peers: Sequence[str], in_flight: int) -> str | None:
    """Returns the peer that answers most; None where none was measured at so many in flight."""
    rates = {
        name: median(each.rps for each in measured)
        for name in peers
        if (measured := cells.get(Cell(name, in_flight)))
    }
    return max(rates, key=rates.__getitem__) if rates else None


def ratios(cells: Cells, peers: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns how many times as much we answer as each peer, and as the best, in every load.

    Each ratio is the median of what the rounds say, with the smallest and the largest.
    """
    found: dict[str, dict[str, float]] = {}
    loads = sorted({cell.in_flight for cell in cells})
    for ours in (PREDICT_INTENT, WITH_EVENTS):
        for in_flight in loads:
            compared = {name: name for name in peers}
            if best := best_peer(cells, peers, in_flight):
                compared = {"best_peer": best, **compared}
            for title, name in compared.items():
                over, under = (cells.get(Cell(each, in_flight), ()) for each in (ours, name))
                shares = [o.rps / u.rps for o, u in zip(over, under, strict=False) if u.rps]
                if shares:
                    key = f"{ours}_vs_{title.replace('-', '_')}_at_{in_flight}"
                    found[key] = summary(shares)
    return found
