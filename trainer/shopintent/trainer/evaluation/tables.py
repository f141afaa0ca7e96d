"""Rows of metrics as tables that people read: a model a line, the best of a column marked."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.evaluation.comparison import MINUS, OURS
from shopintent.trainer.evaluation.presentation import (
    HIGH,
    LOW,
    Metric,
    metric_of,
    number,
    ordered,
)


@dataclass(frozen=True)
class Cell:
    """One value, what is beside it in small, and how it is marked."""

    text: str
    note: str = ""
    mark: str = ""
    """"best", "above", "below" or nothing."""


@dataclass(frozen=True)
class Column:
    """What stands above a column."""

    label: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose lines have a name each."""

    title: str
    caption: str
    columns: list[Column]
    lines: list[tuple[str, list[Cell]]]


Wanted = Callable[[MetricRow], bool]


def is_difference(row: MetricRow) -> bool:
    """Returns whether a row compares two models."""
    return MINUS in row.metric


def model_table(
    rows: Iterable[MetricRow],
    columns: Sequence[tuple[Column, str, Wanted]],
    *,
    title: str,
    caption: str = "",
) -> Table | None:
    """Returns a line a model and a column for each (head, metric, which rows); None if empty.

    Several seeds of a model are told by mean and standard deviation.
    """
    chosen: list[dict[str, list[MetricRow]]] = []
    rows = list(rows)
    for _, metric, wanted in columns:
        of_model: dict[str, list[MetricRow]] = defaultdict(list)
        for row in rows:
            if row.metric == metric and wanted(row):
                of_model[row.model].append(row)
        chosen.append(of_model)
    kept = [n for n, of_model in enumerate(chosen) if of_model]
    models = ordered(model for of_model in chosen for model in of_model)
    if not models:
        return None
    marked = [best_of(chosen[n], metric_of(columns[n][1])) for n in kept]
    lines = []
    for model in models:
        cells = []
        for n, best in zip(kept, marked, strict=True):
            own, mark = chosen[n].get(model), "best" if model in best else ""
            known = metric_of(columns[n][1])
            cells.append(value_cell(own, known, mark) if own else Cell("-"))
        lines.append((model, cells))
    return Table(title, caption, [columns[n][0] for n in kept], lines)


def value_cell(rows: Sequence[MetricRow], metric: Metric, mark: str = "") -> Cell:
    """Returns the value of one row with its interval, or mean and deviation of several seeds."""
    values = [row.value for row in rows]
    if len(values) > 1:
        note = f"± {number(statistics.stdev(values), metric)}, {len(values)} seeds"
        return Cell(number(statistics.fmean(values), metric), note, mark)
    ci = rows[0].ci
    note = "" if ci is None else f"{number(ci[0], metric)} to {number(ci[1], metric)}"
    return Cell(number(values[0], metric), note, mark)


def best_of(of_model: dict[str, list[MetricRow]], metric: Metric) -> set[str]:
    """Returns the models with the best value as it is printed; none where all are alike."""

    def badness(rows: list[MetricRow]) -> float:
        value = statistics.fmean(row.value for row in rows)
        if metric.target is not None:
            return abs(value - metric.target)
        return -value if metric.better == HIGH else value

    if len(of_model) < 2 or (metric.better not in (HIGH, LOW) and metric.target is None):
        return set()
    badly = {model: round(badness(rows), metric.digits) for model, rows in of_model.items()}
    best = {model for model, each in badly.items() if each == min(badly.values())}
    return set() if len(best) == len(of_model) else best


def difference_table(
    rows: Iterable[MetricRow],
    columns: Sequence[tuple[Column, str, Wanted]],
    *,
    title: str,
    caption: str = "",
) -> Table | None:
    """Returns a line a baseline and a column for each (head, metric, which rows): ours minus it.

    Ablations are compared among all numbers only.
    """
    about = [row for row in rows if row.model == OURS and is_difference(row)]
    chosen = [
        {
            other: [row for row in about if row.metric == f"{name}{MINUS}{other}" and wanted(row)]
            for other in ordered(row.metric.split(MINUS)[1] for row in about)
        }
        for _, name, wanted in columns
    ]
    kept = [n for n, of_other in enumerate(chosen) if any(of_other.values())]
    if not kept:
        return None
    lines = [
        (
            f"{OURS} minus {other}",
            [difference_cell(chosen[n][other], metric_of(columns[n][1])) for n in kept],
        )
        for other in chosen[0]
        if any(chosen[n][other] for n in kept)
    ]
    return Table(title, caption, [columns[n][0] for n in kept], lines)


def difference_cell(rows: Sequence[MetricRow], metric: Metric) -> Cell:
    """Returns "above" or "BELOW" as far as the interval tells, with the difference.

    Above is better, even where the number is lower. Of several seeds the mean is told, and called
    what all of their intervals say.
    """
    if not rows:
        return Cell("-")
    text = number(statistics.fmean(row.value for row in rows), metric, sign=True)
    said = {verdict(row, metric) for row in rows}
    (word,) = said if len(said) == 1 else ("",)
    if len(rows) > 1:
        note = f"{len(rows)} seeds"
    elif rows[0].ci is None:
        note = "too few to tell"
    else:
        low, high = (number(bound, metric, sign=True) for bound in rows[0].ci)
        note = f"{low} to {high}"
    return Cell(text, f"{word}, {note}" if word else note, word.lower())


def verdict(row: MetricRow, metric: Metric) -> str:
    """Returns whether a difference is to our good, or nothing where its interval holds 0."""
    if row.ci is None or row.ci[0] <= 0 <= row.ci[1]:
        return ""
    return "above" if (row.value > 0) == (metric.better != LOW) else "BELOW"
