"""What the report shows and in which order: the tables and plots of every task that was judged."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from shopintent.artifacts.metrics import ALL, MetricRow
from shopintent.trainer.evaluation import plots
from shopintent.trainer.evaluation.comparison import MINUS, OURS, is_ours
from shopintent.trainer.evaluation.plots import Plot
from shopintent.trainer.evaluation.presentation import LOW, METRICS, Metric, metric_of, number
from shopintent.trainer.evaluation.purchase import PurchaseCurves
from shopintent.trainer.evaluation.tables import (
    Cell,
    Column,
    Table,
    Wanted,
    difference_cell,
    difference_table,
    is_difference,
    model_table,
)

FOUND = ("hr", "ndcg", "mrr")
LISTS = ("coverage", "popularity", "novelty", "diversity")
PROBABILITY = (
    "pr_auc", "roc_auc", "log_loss", "brier", "ece", "calibration_slope", "calibration_intercept",
)  # fmt: skip
FINDING = (
    "recall_at_precision_0.2", "recall_at_precision_0.5", "lift_at_1_percent", "lift_at_5_percent",
)  # fmt: skip
ACTIONS = ("next_action_log_loss", "next_action_accuracy")


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation or a benchmark, ready to be written."""

    title: str
    summary: str
    protocol: Mapping[str, Any]
    rows: Sequence[MetricRow]
    curves: Sequence[PurchaseCurves] = ()
    history: Sequence[Mapping[str, float]] = ()
    """The losses of every epoch of the network."""
    best_epoch: int = 0


@dataclass(frozen=True)
class Part:
    """A table or a plot."""

    table: Table | None = None
    draw: Callable[[], Plot | None] | None = None
    """Draws a plot, only where it is shown."""
    main: bool = False
    """Whether the console shows it too."""
    folded: bool = False
    """Whether the page shows it only when asked to."""


@dataclass(frozen=True)
class Headline:
    """One number on top of the page."""

    label: str
    value: str
    note: str
    mark: str


@dataclass(frozen=True)
class Section:
    """A part of the page with a title."""

    title: str
    text: str
    parts: list[Part] = field(default_factory=list)

    def add(self, table: Table | None, *, main: bool = False, folded: bool = False) -> None:
        """Adds a table; None is nothing to show."""
        if table is not None:
            self.parts.append(Part(table=table, main=main, folded=folded))

    def plot(self, draw: Callable[[], Plot | None]) -> None:
        """Adds a plot."""
        self.parts.append(Part(draw=draw))


def sections(report: Report) -> list[Section]:
    """Returns all sections that have something to show."""
    rows = report.rows
    ranked = unique((row.split, row.seen_filter) for row in rows if row.seen_filter is not None)
    asked = unique((row.split, row.horizon) for row in rows if is_probability(row))
    acted = unique(row.split for row in rows if row.metric in ACTIONS)
    found = [
        *(ranking_section(rows, split, bool(filtered)) for split, filtered in ranked),
        *(purchase_section(report, split, str(horizon)) for split, horizon in asked),
        *(action_section(rows, split) for split in acted),
        expectation_section(
            rows, "time_to_purchase", "Time to purchase", "Seconds, where a purchase comes in time."
        ),
        expectation_section(rows, "quantity", "Quantity", "Units of the next order."),
        other_section(rows),
        training_section(report),
    ]
    return [section for section in found if section.parts]


def unique(values: Iterable[Any]) -> list[Any]:
    """Returns each value once, in order."""
    return list(dict.fromkeys(values))


def is_probability(row: MetricRow) -> bool:
    """Returns whether a row is about purchase probabilities within a horizon."""
    return row.horizon is not None and row.metric.split(MINUS)[0] in (
        *PROBABILITY,
        *FINDING,
        "base_rate",
    )


def column(name: str, wanted: Wanted, note: str = "") -> tuple[Column, str, Wanted]:
    """Returns a column of one metric."""
    metric = metric_of(name)
    return Column(metric.label, note or metric.meaning), name, wanted


def at(k: int | None = None, prefix: str = ALL, slice: str = ALL) -> Wanted:
    """Returns a choice of rows."""
    return lambda row: (row.k, row.prefix, row.slice) == (k, prefix, slice)


def filter_name(seen_filter: bool) -> str:
    """Returns how the seen-filter is called in titles."""
    return "seen products filtered" if seen_filter else "seen products kept"


def ranking_section(rows: Sequence[MetricRow], split: str, seen_filter: bool) -> Section:
    """Returns what was found in ranked lists."""
    own = [row for row in rows if row.split == split and row.seen_filter == seen_filter]
    whole = [row for row in own if row.slice == ALL]
    samples = max((row.samples or 0 for row in own), default=0)
    section = Section(
        f"Next product, {split}, {filter_name(seen_filter)}",
        f"{samples:,} requests, each ranked among the whole catalog.",
    )
    columns = [
        (Column(f"{metric_of(name).label}@{k}", metric_of(name).meaning), name, at(k))
        for name, k in (("hr", 10), ("ndcg", 10), ("mrr", 10), ("hr", 1), ("hr", 20), ("ndcg", 20))
    ]
    section.add(model_table(whole, columns, title="How often the product is found"), main=True)
    section.plot(partial(plots.found_at_k, whole))
    slices = unique(row.slice for row in own if row.metric == "ndcg")
    if len(slices) > 1:
        heads = [
            (sized(own, name, "ndcg", at(10, slice=name)), "ndcg", at(10, slice=name))
            for name in slices
        ]
        section.add(model_table(own, heads, title="NDCG@10 by who asks and what is wanted"))
    compared = [
        (
            sized(own, f"{metric_of(name).label}@10, {each}", name, at(10, slice=each)),
            name,
            at(10, slice=each),
        )
        for each in slices
        for name in ("ndcg", "hr")
        if name == "ndcg" or each == ALL
    ]
    section.add(difference_table(own, compared, title="Ours minus each baseline"), main=True)
    shape = [
        (Column(f"{metric_of(name).label}@10", metric_of(name).meaning), name, at(10))
        for name in LISTS
    ]
    section.add(model_table(whole, shape, title="What the lists are like"))
    section.plot(partial(plots.list_character, whole))
    return section


def sized(rows: Sequence[MetricRow], label: str, metric: str, wanted: Wanted) -> Column:
    """Returns a column whose note is how many samples it is about."""
    counts = [row.samples for row in rows if row.metric == metric and wanted(row) and row.samples]
    return Column(label, f"{max(counts):,} samples" if counts else "")


def purchase_section(report: Report, split: str, horizon: str) -> Section:
    """Returns what was said of purchases within one horizon."""
    own = [row for row in report.rows if row.split == split and row.horizon == horizon]
    curves = [each for each in report.curves if (each.split, each.horizon) == (split, horizon)]
    within = "later in the visit" if horizon == "session" else f"within {horizon}"
    section = Section(f"Purchase {within}, {split} split", base_rates(own))
    columns = [column(name, at()) for name in PROBABILITY]
    section.add(model_table(own, columns, title="How good and how true, all prefixes"), main=True)
    buyers = [column(name, at()) for name in FINDING]
    section.add(model_table(own, buyers, title="How many buyers are found, all prefixes"))
    prefixes = unique(row.prefix for row in own if row.metric == "log_loss")
    for name in (*PROBABILITY, *FINDING):
        heads = [(prefix_head(own, each), name, at(prefix=each)) for each in prefixes]
        title = f"{metric_of(name).label} by how many events are known"
        opened = name in ("pr_auc", "ece")
        section.add(model_table(own, heads, title=title), main=name == "pr_auc", folded=not opened)
        title = f"{metric_of(name).label}, ours minus each baseline"
        section.add(
            difference_table(own, heads, title=title), main=name == "pr_auc", folded=not opened
        )
    whole = [row for row in own if row.slice == ALL]
    section.plot(partial(plots.differences, whole, "pr_auc"))
    if curves:
        section.plot(partial(plots.precision_recall, curves))
        section.plot(partial(plots.reliability_diagrams, curves))
        section.plot(partial(plots.roc_and_histogram, curves[0]))
    slices = unique(row.slice for row in own if row.slice != ALL)
    for name in ("pr_auc", "ece") if slices else ():
        heads = [(sized(own, each, name, at(slice=each)), name, at(slice=each)) for each in slices]
        section.add(model_table(own, heads, title=f"{metric_of(name).label} by shopper"))
    return section


def base_rates(rows: Sequence[MetricRow]) -> str:
    """Returns how many prefixes are judged and how many buy."""
    for row in rows:
        if row.metric == "base_rate" and at()(row) and row.samples:
            buyers = round(row.value * row.samples)
            return f"{row.samples:,} prefixes, {buyers:,} of which buy: {row.value:.2%}."
    return ""


def prefix_label(prefix: str) -> str:
    """Returns how a prefix is called above a column."""
    return "all" if prefix == ALL else f"{prefix} event{'s' * (prefix != '1')}"


def prefix_head(rows: Sequence[MetricRow], prefix: str) -> Column:
    """Returns the head of a prefix's column: samples and share that buys."""
    label = prefix_label(prefix)
    for row in rows:
        if row.metric == "base_rate" and at(prefix=prefix)(row) and row.samples:
            return Column(label, f"{round(row.value * row.samples):,} of {row.samples:,} buy")
    return sized(rows, label, "next_action_log_loss", at(prefix=prefix))


def action_section(rows: Sequence[MetricRow], split: str) -> Section:
    """Returns how well the next action is foretold."""
    own = [row for row in rows if row.split == split and row.metric.split(MINUS)[0] in ACTIONS]
    section = Section(
        f"Next action, {split} split", "What the shopper does next in this visit, leaving included."
    )
    section.add(
        model_table(own, [column(name, at()) for name in ACTIONS], title="All prefixes"), main=True
    )
    prefixes = unique(row.prefix for row in own)
    heads = [(prefix_head(own, each), ACTIONS[0], at(prefix=each)) for each in prefixes]
    section.add(model_table(own, heads, title="Log loss by how many events are known"))
    section.add(difference_table(own, heads, title="Log loss, ours minus each baseline"))
    return section


def expectation_section(rows: Sequence[MetricRow], answer: str, title: str, text: str) -> Section:
    """Returns how far off one expectation is."""
    own = [row for row in rows if row.metric.startswith(f"{answer}_")]
    section = Section(title, text)
    for split in unique(row.split for row in own):
        about = [row for row in own if row.split == split]
        names = unique(row.metric for row in about if not is_difference(row))
        columns = [column(name, at()) for name in names]
        section.add(model_table(about, columns, title=f"{split} split"), main=True)
        section.add(difference_table(about, columns, title="Ours minus each baseline"))
        prefixes = unique(row.prefix for row in about)
        heads = [
            (sized(about, prefix_label(each), names[0], at(prefix=each)), names[0], at(prefix=each))
            for each in prefixes
        ]
        title = f"{metric_of(names[0]).label} by how many events are known"
        section.add(model_table(about, heads, title=title), folded=True)
    return section


def other_section(rows: Sequence[MetricRow]) -> Section:
    """Returns everything that no section of its own is made for."""
    own = [row for row in rows if row.metric.split(MINUS)[0] not in METRICS]
    section = Section("Other numbers", "")
    for split, horizon in unique((row.split, row.horizon) for row in own):
        about = [row for row in own if (row.split, row.horizon) == (split, horizon)]
        names = unique(row.metric for row in about if not is_difference(row))
        title = f"{split} split" if horizon is None else f"{horizon}, {split} split"
        columns = [column(name, at()) for name in names]
        section.add(model_table(about, columns, title=title), main=True)
        section.add(difference_table(about, columns, title="Ours minus each baseline"))
    return section


def training_section(report: Report) -> Section:
    """Returns how the training went."""
    text = f"{len(report.history)} epochs; number {report.best_epoch + 1} was kept."
    section = Section("Training", text)
    if report.history:
        section.plot(partial(plots.training_history, report.history, report.best_epoch))
    return section


def headlines(rows: Sequence[MetricRow]) -> list[Headline]:
    """Returns the numbers on top: ours beside the best baseline."""
    found = []
    for split, seen in unique((r.split, r.seen_filter) for r in rows if r.seen_filter is not None):
        for name in ("hr", "ndcg"):
            label = f"{metric_of(name).label}@10, {split}, {filter_name(bool(seen))}"
            found.append(headline(rows, name, label, ranked_at_10(split, seen)))
    for split, horizon in unique((row.split, row.horizon) for row in rows if is_probability(row)):
        for name in ("pr_auc", "ece", "calibration_slope"):
            label = f"{metric_of(name).label}, purchase within {horizon}"
            found.append(headline(rows, name, label, bought_within(split, horizon)))
    for split in unique(row.split for row in rows if row.metric == ACTIONS[0]):
        found.append(headline(rows, ACTIONS[0], "log loss, next action", of_split(split)))
    return [each for each in found if each is not None]


def ranked_at_10(split: str, seen_filter: bool | None) -> Wanted:
    """Returns the choice of the main rows of a ranking."""
    return lambda row: (row.split, row.seen_filter) == (split, seen_filter) and at(10)(row)


def bought_within(split: str, horizon: str | None) -> Wanted:
    """Returns the choice of the main rows of a horizon."""
    return lambda row: (row.split, row.horizon) == (split, horizon) and at()(row)


def of_split(split: str) -> Wanted:
    """Returns the choice of rows about all prefixes of a split."""
    return lambda row: row.split == split and at()(row)


def headline(
    rows: Sequence[MetricRow], name: str, label: str, wanted: Callable[[MetricRow], bool]
) -> Headline | None:
    """Returns ours with the difference to the best baseline; None where ours has no such number."""
    own = [row for row in rows if row.metric == name and wanted(row)]
    metric = metric_of(name)
    mine = [row for row in own if row.model == OURS]
    if not mine:
        return None
    value = number(statistics.fmean(row.value for row in mine), metric)
    theirs = {
        row.model: [each for each in own if each.model == row.model]
        for row in own
        if not is_ours(row.model)
    }
    if metric.target is not None or name == "ece" or not theirs:
        return Headline(label, value, interval(mine, metric), "")
    best = min(theirs, key=lambda model: rank(theirs[model], metric))
    note = f"{best} {number(statistics.fmean(row.value for row in theirs[best]), metric)}"
    compared = [
        row for row in rows if row.metric == f"{name}{MINUS}{best}" and wanted(row)
        and row.model == OURS
    ]  # fmt: skip
    difference = difference_cell(compared, metric) if compared else Cell("")
    return Headline(label, value, f"{note}. {difference.text} {difference.note}", difference.mark)


def rank(rows: Sequence[MetricRow], metric: Metric) -> float:
    """Returns a number that is lowest for the best baseline."""
    value = statistics.fmean(row.value for row in rows)
    return value if metric.better == LOW else -value


def interval(rows: Sequence[MetricRow], metric: Metric) -> str:
    """Returns the interval of a single row in words."""
    ci = rows[0].ci
    if len(rows) > 1 or ci is None:
        return f"mean of {len(rows)} seeds" if len(rows) > 1 else ""
    return f"{number(ci[0], metric)} to {number(ci[1], metric)}"
