"""Draws how long answers take at the rates that were reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from deploy.bench.targets import HEALTH

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3")


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes a picture of p50 and p99 over throughput, a curve a target, a point a load."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    rows = [row for row in rows if row["target"] != HEALTH]
    who = list(dict.fromkeys((row["target"], row["products"]) for row in rows))
    for axis, measure in zip(axes, ("p50_ms", "p99_ms"), strict=True):
        for color, (target, products) in zip(COLORS * len(who), who, strict=False):
            points = [row for row in rows if (row["target"], row["products"]) == (target, products)]
            _curve(axis, points, measure, _name(target, products), color)
        axis.set_title(f"{measure.removesuffix('_ms')} at each number of calls in flight")
        axis.set_xlabel("answers a second")
        axis.set_xlim(left=0)
        axis.set_yscale("log")
        axis.grid(alpha=0.3, which="both")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("milliseconds")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(who), frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _curve(
    axis: Axes, points: Sequence[dict[str, Any]], measure: str, name: str, color: str
) -> None:
    points = sorted(points, key=lambda row: int(row["in_flight"]))
    axis.plot(
        [row["rps"] for row in points],
        [row[measure] for row in points],
        *("o-",),
        color=color,
        label=name,
        markersize=4,
    )
    for row in points:
        axis.annotate(
            str(row["in_flight"]),
            (row["rps"], row[measure]),
            textcoords="offset points",
            xytext=(4, -9),
            fontsize=7,
            color=color,
        )


def _name(target: str, products: int) -> str:
    names = {
        "triton": "Triton, asked directly",
        "predict_intent": "PredictIntent",
        "recommend": f"Recommend, {products:,} products",
    }
    return names[target]
