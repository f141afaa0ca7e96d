"""The evaluation as files that people and programs read: JSON, Markdown and plots."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.evaluation.evaluate import (
    BASELINE,
    MODEL,
    Evaluation,
    PurchaseResult,
)
from shopintent.trainer.evaluation.metrics import Metrics, as_row, reliability
from shopintent.trainer.run import Run

matplotlib.use("Agg")

FORMAT_VERSION = 1
COLORS = ("#0b6bcb", "#c41c1c", "#9a5b13", "#555e68")


def write_report(folder: Path, run: Run, dataset: Dataset, evaluation: Evaluation) -> None:
    """Writes evaluation.json, evaluation.md and the plots into the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in evaluation.purchases:
        if len(result.labels):
            plot_purchases(result).savefig(folder / plot_name(result), dpi=120)
    plot_history(run).savefig(folder / "training.png", dpi=120)
    content = json.dumps(as_json(run, dataset, evaluation), indent=2)
    (folder / "evaluation.json").write_text(content + "\n", encoding="utf-8")
    markdown = as_markdown(run, dataset, evaluation)
    (folder / "evaluation.md").write_text(markdown, encoding="utf-8")


def as_json(run: Run, dataset: Dataset, evaluation: Evaluation) -> dict[str, Any]:
    """Returns every number of the evaluation."""
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset.info.mapping,
        "cut_time": run.info.cut_time,
        "samples": evaluation.n_samples,
        "undecided_samples": evaluation.n_undecided,
        "shoppers": evaluation.n_shoppers,
        "cold_shoppers": evaluation.n_cold_shoppers,
        "purchase": [
            {
                "horizon_s": result.horizon_s,
                "models": {
                    name: {each: as_row(metrics) for each, metrics in slices.items()}
                    for name, slices in result.by_model.items()
                },
            }
            for result in evaluation.purchases
        ],
        "next_action": {name: as_row(each) for name, each in evaluation.actions.items()},
        "next_product": {name: as_row(each) for name, each in evaluation.products.items()},
    }


def as_markdown(run: Run, dataset: Dataset, evaluation: Evaluation) -> str:
    """Returns the report that people read."""
    info, config = dataset.info, run.info.config
    cut = datetime.fromtimestamp(run.info.cut_time, UTC).isoformat(sep=" ", timespec="minutes")
    lines = [
        f"# Evaluation on {info.mapping}",
        "",
        f"{info.n_shoppers:,} shoppers, {info.n_products:,} products, {info.n_events:,} events. "
        f"Held out: all visits that start from {cut} UTC on. Judged: {evaluation.n_samples:,} "
        f"prefixes of visits (after 1, 2, 3, 5, 10 and 20 events; for purchases the "
        f"{evaluation.n_undecided:,} in which nothing was bought yet) of "
        f"{evaluation.n_shoppers:,} shoppers, {evaluation.n_cold_shoppers:,} of whom "
        "training never saw. Asked right after the last event of the prefix; the time of what "
        f"comes next is not known. Seed {config.seed}.",
        "",
    ]
    for result in evaluation.purchases:
        lines += purchase_section(result)
    lines += ["## Next action", "", *table(evaluation.actions), ""]
    lines += [
        "## Next product",
        "",
        f"The product of the next event ranked among all {info.n_products:,} products, seen ones "
        f"included; ties count half. {evaluation.n_next_products:,} prefixes have one.",
        "",
        *table(evaluation.products),
        "",
        "## Training",
        "",
        f"{len(run.info.history)} epochs, the best was number {run.info.best_epoch + 1}.",
        "",
        "![losses](training.png)",
        "",
    ]
    return "\n".join(lines)


def purchase_section(result: PurchaseResult) -> list[str]:
    """Returns the part of the report about one horizon."""
    title = f"## Purchase within {horizon_name(result.horizon_s)}"
    if not len(result.labels):
        return [
            title,
            "",
            "No visit can be judged: each starts with a purchase, or the log ends too early.",
            "",
        ]
    overall = {name: slices["all"] for name, slices in result.by_model.items()}
    own = {name: metrics for name, metrics in result.by_model[MODEL].items() if name != "all"}
    return [
        title,
        "",
        *table(overall),
        "",
        verdict(result),
        "",
        f"The same for {MODEL} alone, by how much of the visit is known and by shopper:",
        "",
        *table(own),
        "",
        f"![calibration and ROC]({plot_name(result)})",
        "",
    ]


def verdict(result: PurchaseResult) -> str:
    """Returns by how much the model is above or below the baseline."""
    ours = result.by_model[MODEL]["all"]
    theirs = result.by_model.get(BASELINE, {}).get("all")
    if ours is None or theirs is None:
        return "Too few purchases to compare."
    distance = ours.roc_auc - theirs.roc_auc
    word = "above" if distance >= 0 else "BELOW"
    return (
        f"ROC-AUC is {abs(distance):.4f} {word} the {BASELINE}, PR-AUC "
        f"{abs(ours.pr_auc - theirs.pr_auc):.4f} "
        f"{'above' if ours.pr_auc >= theirs.pr_auc else 'BELOW'}."
    )


def table(rows: dict[str, Any]) -> list[str]:
    """Returns a Markdown table, a row a model or slice; rows without metrics say so."""
    filled: dict[str, Metrics] = {name: each for name, each in rows.items() if each is not None}
    if not filled:
        return ["Too few samples to tell."]
    columns = list(as_row(next(iter(filled.values()))) or {})
    lines = ["| | " + " | ".join(name.replace("_", " ") for name in columns) + " |"]
    lines.append("| --- |" + " --: |" * len(columns))
    for name, metrics in rows.items():
        values = as_row(metrics)
        cells = ["-"] * len(columns) if values is None else [number(values[c]) for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def number(value: float) -> str:
    """Returns a count as it is and anything else with four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def horizon_name(seconds: int) -> str:
    """Returns "30 minutes", "1 day" and the like."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} seconds"


def plot_name(result: PurchaseResult) -> str:
    """Returns the file name of a horizon's plots."""
    return f"purchase-{result.horizon_s}s.png"


def plot_purchases(result: PurchaseResult) -> Figure:
    """Returns calibration and ROC side by side."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    calibration, roc = figure.subplots(1, 2)
    highest = 0.0
    for color, (name, probabilities) in zip(COLORS, result.probabilities.items(), strict=False):
        # One probability for all is one point, whose bins would only differ by chance.
        constant = bool((probabilities == probabilities[0]).all())
        whole = [(probabilities[0], float(result.labels.mean()), len(probabilities))]
        bins = whole if constant else reliability(probabilities, result.labels)
        calibration.plot(
            [mean for mean, _, _ in bins],
            [share for _, share, _ in bins],
            "o-",
            color=color,
            label=name,
        )
        highest = max([highest, *(max(mean, share) for mean, share, _ in bins)])
        if result.labels.any() and not result.labels.all():
            false_rate, true_rate, _ = roc_curve(result.labels, probabilities)
            roc.plot(false_rate, true_rate, color=color, label=name)
    calibration.plot([0, highest], [0, highest], ":", color="#888", label="right")
    calibration.set(xlabel="predicted probability", ylabel="share that bought", title="Calibration")
    roc.plot([0, 1], [0, 1], ":", color="#888")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    for axes in (calibration, roc):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    figure.suptitle(f"Purchase within {horizon_name(result.horizon_s)}, held-out visits")
    return figure


def plot_history(run: Run) -> Figure:
    """Returns the losses of every epoch, training beside validation."""
    history = run.info.history
    names = [name.removeprefix("train_") for name in history[0] if name.startswith("train_")]
    figure = Figure(figsize=(3.4 * len(names), 3.4), layout="constrained")
    panels = figure.subplots(1, len(names))
    epochs = [row["epoch"] + 1 for row in history]
    for axes, name in zip(panels, names, strict=True):
        for color, part in zip(COLORS, ("train", "validation"), strict=False):
            axes.plot(epochs, [row[f"{part}_{name}"] for row in history], color=color, label=part)
        axes.axvline(run.info.best_epoch + 1, linestyle=":", color="#888")
        axes.set(title=f"{name} loss", xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure
