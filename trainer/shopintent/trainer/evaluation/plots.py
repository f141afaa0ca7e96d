"""Plots of an evaluation, as SVG that needs nothing beside it."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from shopintent.artifacts.metrics import ALL, MetricRow
from shopintent.trainer.evaluation.comparison import MINUS, is_ours
from shopintent.trainer.evaluation.presentation import color_of, metric_of, ordered
from shopintent.trainer.evaluation.purchase import ModelCurve, PurchaseCurves

STYLE: Any = {  # matplotlib types keys as literals
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#94a3b8", "axes.labelcolor": "#334155", "axes.grid": True,
    "grid.color": "#e2e8f0", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "xtick.color": "#475569", "ytick.color": "#475569", "text.color": "#0f172a",
    "figure.facecolor": "none", "axes.facecolor": "none", "legend.frameon": False,
    "svg.hashsalt": "shopintent", "svg.fonttype": "path",
}  # fmt: skip
PANEL = 2.9
"""Inches of a panel's side."""
WIDTH = 10.4
LISTS = ("coverage", "popularity", "diversity")


@dataclass(frozen=True)
class Plot:
    """A picture and what it shows, for those who cannot see it."""

    svg: str
    alt: str


def drawn(figure: Figure, alt: str) -> Plot:
    """Returns the figure as SVG, the same for the same data."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return Plot(written.getvalue(), alt)


def panels(n: int, *, columns: int = 3, height: float = PANEL) -> tuple[Figure, list[Axes]]:
    """Returns a figure of n panels in lines of up to `columns`, with room for a legend on top."""
    lines = math.ceil(n / columns)
    figure = Figure(figsize=(WIDTH, height * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for axes in grid[n:]:
        axes.set_visible(False)
    return figure, grid[:n]


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Puts one legend for all panels on top of them."""
    named = {
        label: handle
        for each in axes
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True)
    }
    if named:
        figure.legend(
            named.values(), named.keys(), loc="outside upper left", ncols=min(6, len(named))
        )


def line_style(model: str) -> dict[str, Any]:
    """Returns how a model's line looks: ours stand out."""
    return {"linewidth": 2.2, "zorder": 3} if is_ours(model) else {"linewidth": 1.2, "zorder": 2}


def title_of(curves: PurchaseCurves) -> str:
    """Returns the title of a panel of one prefix."""
    if curves.prefix == ALL:
        return f"all prefixes, {curves.positives:,} of {curves.samples:,} buy"
    events = "event" if curves.prefix == "1" else "events"
    return f"{curves.prefix} {events}, {curves.positives:,} of {curves.samples:,} buy"


def precision_recall(curves: Sequence[PurchaseCurves]) -> Plot:
    """Draws precision over recall, a panel a prefix."""
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(curves))
        for axes, each in zip(grid, curves, strict=True):
            rate = each.positives / each.samples
            for model, curve in each.models.items():
                if model != "constant":
                    recall, precision = curve.precision_recall.T
                    axes.plot(
                        recall, precision, label=model, color=color_of(model, each.models),
                        **line_style(model),
                    )  # fmt: skip
            axes.axhline(rate, color="#94a3b8", linestyle=":", label="base rate")
            # The first few samples jump about; the rest is what the eye should see.
            steady = [c.precision_recall[c.precision_recall[:, 0] > 0.03] for c in shown(each)]
            tops = [float(points[:, 1].max()) for points in steady if len(points)]
            axes.set(
                title=title_of(each), xlabel="recall", ylabel="precision", xlim=(0, 1),
                ylim=(0, min(1.02, 1.2 * max([rate * 1.5, *tops]))),
            )  # fmt: skip
        legend(figure, grid)
        return drawn(figure, "Precision over recall of every model, a panel a prefix length")


def shown(curves: PurchaseCurves) -> list[ModelCurve]:
    """Returns the curves of all models but the constant."""
    return [curve for model, curve in curves.models.items() if model != "constant"]


def reliability_diagrams(curves: Sequence[PurchaseCurves]) -> Plot:
    """Draws the share that buys over the probability, a panel a prefix."""
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(curves))
        for axes, each in zip(grid, curves, strict=True):
            highest = 0.0
            for model, curve in each.models.items():
                points = np.array(curve.bins)
                highest = max(highest, float(points[:, :2].max()))
                axes.plot(
                    points[:, 0], points[:, 1], "o-", markersize=4 if is_ours(model) else 3,
                    label=model, color=color_of(model, each.models), **line_style(model),
                )  # fmt: skip
            axes.plot(
                [0, highest], [0, highest], color="#64748b", linestyle=":", label="calibrated"
            )
            axes.set(title=title_of(each), xlabel="predicted", ylabel="share that buys")
        legend(figure, grid)
        return drawn(figure, "Share that buys over the predicted probability, 15 equal bins")


def roc_and_histogram(whole: PurchaseCurves) -> Plot:
    """Draws ROC curves and how often each probability is said, of all prefixes."""
    with matplotlib.rc_context(STYLE):
        figure, (roc, histogram) = panels(2, columns=2, height=3.2)
        for model, curve in whole.models.items():
            color = color_of(model, whole.models)
            roc.plot(*curve.roc.T, label=model, color=color, **line_style(model))
            if model == "constant":
                continue
            edges = np.linspace(0, curve.highest, len(curve.histogram) + 1)
            density = curve.histogram / max(whole.samples * edges[1], 1e-12)
            histogram.stairs(density, edges, color=color, **line_style(model))
        roc.plot([0, 1], [0, 1], color="#94a3b8", linestyle=":", linewidth=1)
        roc.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
        roc.set(xlim=(0, 1), ylim=(0, 1.01))
        histogram.axvline(
            whole.positives / whole.samples, color="#94a3b8", linestyle=":", label="base rate"
        )
        histogram.set(title="What is said", xlabel="predicted probability", ylabel="density")
        legend(figure, [roc, histogram])
        return drawn(figure, "ROC curves, and how often each probability is predicted")


def differences(rows: Sequence[MetricRow], metric: str) -> Plot | None:
    """Draws ours minus each baseline with intervals, by prefix; None if there is nothing to."""
    about = [row for row in rows if row.metric.startswith(f"{metric}{MINUS}") and row.ci]
    main = ordered(row.model for row in about)[:1]
    about = first_seed([row for row in about if row.model in main])
    others = ordered(row.metric.split(MINUS)[1] for row in about)
    prefixes = sorted({row.prefix for row in about}, key=lambda p: (p != ALL, len(p), p))
    if not others:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.42 * len(prefixes)), layout="constrained")
        axes = figure.subplots()
        for n, other in enumerate(others):
            own = [row for row in about if row.metric.endswith(f"{MINUS}{other}")]
            at = [prefixes.index(row.prefix) + 0.16 * (n - (len(others) - 1) / 2) for row in own]
            values = np.array([row.value for row in own])
            bounds = np.array([row.ci for row in own], float).reshape(-1, 2)
            errors = np.abs(bounds.T - values)
            axes.errorbar(
                values, at, xerr=errors, fmt="o", markersize=4, linewidth=1.4,
                color=color_of(other, others), label=f"minus {other}",
            )  # fmt: skip
        axes.axvline(0, color="#334155", linewidth=1)
        axes.set_yticks(range(len(prefixes)), [prefix_label(each) for each in prefixes])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        label = metric_of(metric).label
        axes.set_xlabel(f"{label} of {main[0]} minus that of the baseline, 95 % interval")
        legend(figure, [axes])
        return drawn(figure, f"Differences in {label} to every baseline, by prefix")


def prefix_label(prefix: str) -> str:
    """Returns how a prefix is called on an axis."""
    return "all prefixes" if prefix == ALL else f"{prefix} event{'s' * (prefix != '1')}"


def first_seed(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """Returns one row of every model, metric and group: that of its first seed."""
    kept: dict[tuple[Any, ...], MetricRow] = {}
    for row in rows:
        key = (row.model, row.metric, row.k, row.prefix, row.horizon, row.slice, row.split)
        kept.setdefault((*key, row.seen_filter), row)
    return list(kept.values())


def found_at_k(rows: Sequence[MetricRow]) -> Plot | None:
    """Draws HR, NDCG and MRR at every k, with intervals; None if there are none."""
    names = [name for name in ("hr", "ndcg", "mrr") if any(row.metric == name for row in rows)]
    if not names:
        return None
    models = ordered(row.model for row in rows)
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(names), height=3.2)
        ks = sorted({row.k for row in rows if row.metric in names and row.k})
        for axes, name in zip(grid, names, strict=True):
            for n, model in enumerate(models):
                own = by_k([row for row in rows if (row.model, row.metric) == (model, name)])
                if not own:
                    continue
                at = [ks.index(k) + 0.05 * (n - (len(models) - 1) / 2) for k in own]
                values = np.array([value for value, _, _ in own.values()])
                spread = np.array(
                    [(value - low, high - value) for value, low, high in own.values()]
                )
                axes.errorbar(
                    at, values, yerr=np.maximum(spread.T, 0), marker="o", markersize=3.5,
                    capsize=2, label=model, color=color_of(model, models), **line_style(model),
                )  # fmt: skip
            axes.set_xticks(range(len(ks)), [str(k) for k in ks])
            axes.set(title=f"{metric_of(name).label}@k", xlabel="k")
            axes.set_ylim(bottom=0)
        legend(figure, grid)
        return drawn(figure, "Hit rate, NDCG and MRR at every cut-off k, with 95 % intervals")


def by_k(rows: Sequence[MetricRow]) -> dict[int, tuple[float, float, float]]:
    """Returns value and bounds at every k; of several seeds, mean and range."""
    found = {}
    for k in sorted({row.k for row in rows if row.k is not None}):
        own = [row for row in rows if row.k == k]
        value = statistics.fmean(row.value for row in own)
        bounds = [bound for row in own for bound in (row.ci or (row.value, row.value))]
        if len(own) > 1:
            bounds = [row.value for row in own]
        found[k] = (value, min(bounds), max(bounds))
    return found


def list_character(rows: Sequence[MetricRow]) -> Plot | None:
    """Draws coverage, popularity and diversity of the lists at 10, a bar a model."""
    about = [row for row in rows if row.metric in LISTS and row.k == 10]
    names = [name for name in LISTS if any(row.metric == name for row in about)]
    models = ordered(row.model for row in about)
    if not names:
        return None
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(names), height=0.9 + 0.28 * len(models))
        for axes, name in zip(grid, names, strict=True):
            own = [
                [row.value for row in about if (row.model, row.metric) == (model, name)]
                for model in models
            ]
            values = [statistics.fmean(each) if each else 0.0 for each in own]
            bars = axes.barh(
                models, values, color=[color_of(each, models) for each in models], height=0.62
            )
            metric = metric_of(name)
            texts = [f"{v:.1%}" if metric.percent else f"{v:,.{metric.digits}f}" for v in values]
            axes.bar_label(bars, texts, padding=3, fontsize=8, color="#334155")
            axes.set_title(f"{metric.label}@10")
            axes.margins(x=0.22)
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
            if axes is not grid[0]:
                axes.set_yticklabels([])
        return drawn(figure, "Coverage, popularity and diversity of the first ten products")


def training_history(history: Sequence[Mapping[str, float]], best_epoch: int) -> Plot | None:
    """Draws the losses of every epoch, training beside validation; None without a history."""
    parts = ("train", "validation")
    names = list(
        dict.fromkeys(
            key.removeprefix(f"{part}_")
            for row in history
            for part in parts
            for key in row
            if key.startswith(f"{part}_")
        )
    )
    if not names:
        return None
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(names))
        for axes, name in zip(grid, names, strict=True):
            for part, color in zip(parts, ("#94a3b8", "#1d4ed8"), strict=True):
                told = [
                    (n + 1, row[f"{part}_{name}"])
                    for n, row in enumerate(history)
                    if f"{part}_{name}" in row
                ]
                if told:
                    axes.plot(*zip(*told, strict=True), "o-", markersize=3, color=color, label=part)
            axes.axvline(best_epoch + 1, linestyle=":", color="#d97706", label="kept")
            axes.set(title=name.replace("_", " "), xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, grid)
        return drawn(figure, "Losses of every epoch, on what is learned from and on validation")
