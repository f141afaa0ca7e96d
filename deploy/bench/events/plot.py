"""Draws what tracking costs, and how soon answers know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from deploy.bench.events.report import WANTED_P99_MS
from deploy.bench.plot import COLORS
from deploy.bench.report import Json

MARKS = ("o", "s", "^", "D")


def draw(rows: Sequence[Json], fresh: Sequence[Json], path: Path) -> None:
    """Writes a picture: events a second by calls in flight, and times to answers that know."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    _tracked(left, rows)
    _fresh(right, fresh)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _tracked(axis: Axes, rows: Sequence[Json]) -> None:
    stores = list(dict.fromkeys(row["store"] for row in rows))
    whats = list(dict.fromkeys(row["what"] for row in rows if row["events_per_s"]))
    for store, color in zip(stores, COLORS, strict=False):
        for what, mark in zip(whats, MARKS, strict=False):
            points = [row for row in rows if (row["store"], row["what"]) == (store, what)]
            axis.plot(
                [str(row["in_flight"]) for row in points],
                [row["events_per_s"] for row in points],
                *(f"{mark}-",),
                color=color,
                label=f"{store}, {what.removeprefix('track_')} a call",
                markersize=5,
            )
    axis.set_title("tracked events a second")
    axis.set_xlabel("calls in flight")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)


def _fresh(axis: Axes, fresh: Sequence[Json]) -> None:
    names = [f"{row['store']} {row['what']}\n{row['at_once']} at once" for row in fresh]
    places = range(len(fresh))
    style: dict[str, Any] = {"height": 0.38}
    for shift, measure, color in ((-0.2, "p50_ms", COLORS[0]), (0.2, "p99_ms", COLORS[1])):
        axis.barh(
            [place + shift for place in places],
            [row[measure] for row in fresh],
            color=color,
            label=measure.removesuffix("_ms"),
            **style,
        )
    axis.axvline(WANTED_P99_MS, color="black", linewidth=0.8, linestyle=":")
    axis.set_yticks(list(places), names, fontsize=7)
    axis.invert_yaxis()
    axis.set_title("from an event to an answer that knows it")
    axis.set_xlabel("milliseconds")
    axis.legend(frameon=False, fontsize=8)
