"""Judges purchase probabilities and next actions, by how much of the visit is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from shopintent.artifacts.metrics import ALL, MetricRow
from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.evaluation.bootstrap import Estimate, bootstrap
from shopintent.trainer.evaluation.comparison import Judged, difference_rows, rows_of
from shopintent.trainer.evaluation.metrics import of_actions, of_probabilities, reliability

Floats = NDArray[np.floating[Any]]
Group = tuple[str, str, NDArray[np.bool_]]
"""Prefix, slice and which samples are of both."""

COMPARED = ("pr_auc", "roc_auc", "log_loss", "brier")
CURVE_POINTS = 200
MIN_TOLD_APART = 10
"""With fewer buyers, or others, resamples tell nothing, so that there is no interval."""


@dataclass(frozen=True, eq=False)
class Samples:
    """N prefixes of visits, in groups that are judged by themselves."""

    split: str
    lengths: NDArray[np.int64]  # [N], events known of the visit
    shoppers: NDArray[np.int64]  # [N]
    slices: Mapping[str, NDArray[np.bool_]]
    """Groups [N] beside those of equal length, such as "cold-shoppers"."""

    def groups(self, chosen: NDArray[np.bool_]) -> Iterator[Group]:
        """Yields all of the chosen samples, those of each length, and each slice; none is empty."""
        yield ALL, ALL, chosen
        for length in np.unique(self.lengths[chosen]).tolist():
            yield str(length), ALL, chosen & (self.lengths == length)
        for name, group in self.slices.items():
            if 0 < (chosen & group).sum() < chosen.sum():
                yield ALL, name, chosen & group


@dataclass(frozen=True, eq=False)
class Purchases:
    """What came after the samples, within each of C horizons."""

    horizons: tuple[str, ...]
    """"session", "1h" and the like."""
    labels: NDArray[np.bool_]  # [N, C]
    known: NDArray[np.bool_]  # [N, C], whether the log goes on long enough to tell


@dataclass(frozen=True, eq=False)
class Said:
    """What one fit of a model said of the samples."""

    model: str
    probabilities: Floats
    """[N, C] of purchases, NaN in a column it says nothing of; or [N, A] of next actions."""
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class ModelCurve:
    """How one model did on one group of samples, to be drawn."""

    precision_recall: NDArray[np.float64]  # [M, 2], recall and precision
    roc: NDArray[np.float64]  # [M, 2], false and true positive rate
    bins: list[tuple[float, float, int]]
    """Mean probability, share of positives and size."""
    histogram: NDArray[np.int64]
    """How many probabilities fall into each of the equal parts of 0 to `highest`."""
    highest: float


@dataclass(frozen=True, eq=False)
class PurchaseCurves:
    """The curves of all models on the samples of one horizon and prefix."""

    split: str
    horizon: str
    prefix: str
    samples: int
    positives: int
    models: Mapping[str, ModelCurve]


def purchase_rows(
    samples: Samples,
    purchases: Purchases,
    said: Sequence[Said],
    on_progress: Progress = silent,
) -> list[MetricRow]:
    """Returns the rows of every model; one that says nothing of a horizon has no rows of it."""
    rows = []
    for column, horizon in enumerate(purchases.horizons):
        known, models = purchases.known[:, column], speaking(said, column)
        groups = list(samples.groups(known)) if known.any() else []
        for n, (prefix, name, group) in enumerate(groups):
            on_progress(f"judging purchases, {horizon}", n + 1, len(groups))
            labels, shoppers = purchases.labels[group, column], samples.shoppers[group]
            judged = [
                Judged(
                    each.model,
                    each.seed,
                    estimates(each.probabilities[group, column], labels, shoppers),
                )
                for each in models
            ]
            protocol: dict[str, Any] = {
                "split": samples.split, "horizon": horizon, "prefix": prefix, "slice": name,
                "samples": int(group.sum()),
            }  # fmt: skip
            rows += rows_of(judged, **protocol) + difference_rows(judged, COMPARED, **protocol)
    return rows


def estimates(
    probabilities: Floats, labels: NDArray[np.bool_], shoppers: NDArray[np.int64]
) -> dict[str, Estimate]:
    """Returns every metric of one model, without intervals where hardly anybody buys."""
    found = bootstrap(of_probabilities(probabilities, labels), shoppers)
    if min(labels.sum(), (~labels).sum()) >= MIN_TOLD_APART:
        return found
    return {name: Estimate(each.value, np.zeros(0)) for name, each in found.items()}


def speaking(said: Sequence[Said], column: int) -> list[Said]:
    """Returns the models that say something of a horizon."""
    return [each for each in said if not np.isnan(each.probabilities[:, column]).any()]


def action_rows(
    samples: Samples, actions: NDArray[np.int64], said: Sequence[Said]
) -> list[MetricRow]:
    """Returns the rows of every model; actions [N] are those that came, -1 where unknown."""
    known = actions >= 0
    if not known.any():
        return []
    rows = []
    for prefix, name, group in samples.groups(known):
        judged = []
        for each in said:
            measure = of_actions(each.probabilities[group], actions[group])
            found = bootstrap(measure, samples.shoppers[group])
            named = {f"next_action_{metric}": estimate for metric, estimate in found.items()}
            judged.append(Judged(each.model, each.seed, named))
        protocol: dict[str, Any] = {
            "split": samples.split, "prefix": prefix, "slice": name, "samples": int(group.sum()),
        }  # fmt: skip
        rows += rows_of(judged, **protocol)
        rows += difference_rows(judged, ("next_action_log_loss",), **protocol)
    return rows


def purchase_curves(
    samples: Samples, purchases: Purchases, said: Sequence[Said]
) -> list[PurchaseCurves]:
    """Returns what can be drawn: of every horizon all samples, and those of each length.

    Groups in which hardly anybody buys are left out; of several fits of a model the first is
    drawn.
    """
    curves = []
    for column, horizon in enumerate(purchases.horizons):
        first = {each.model: each for each in reversed(speaking(said, column))}
        for prefix, name, group in samples.groups(purchases.known[:, column]):
            labels = purchases.labels[group, column]
            if name != ALL or min(labels.sum(), (~labels).sum()) < MIN_TOLD_APART:
                continue
            models = {
                model: curve_of(each.probabilities[group, column], labels)
                for model, each in reversed(first.items())
            }
            n, positives = len(labels), int(labels.sum())
            curves.append(PurchaseCurves(samples.split, horizon, prefix, n, positives, models))
    return curves


def curve_of(probabilities: Floats, labels: NDArray[np.bool_]) -> ModelCurve:
    """Returns one model's curves, thinned to what an eye can tell apart."""
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    false_rate, true_rate, _ = roc_curve(labels, probabilities)
    highest = float(np.quantile(probabilities, 0.995))
    histogram, _ = np.histogram(probabilities.clip(0, highest), 40, (0, max(highest, 1e-9)))
    return ModelCurve(
        precision_recall=thinned(recall[::-1], precision[::-1]),
        roc=thinned(false_rate, true_rate),
        bins=reliability(probabilities, labels),
        histogram=histogram,
        highest=highest,
    )


def thinned(x: Floats, y: Floats) -> NDArray[np.float64]:
    """Returns [at most CURVE_POINTS, 2] points of a curve whose x ascend, evenly spaced in x."""
    if len(x) > CURVE_POINTS:
        at = np.searchsorted(x, np.linspace(x[0], x[-1], CURVE_POINTS))
        kept = np.unique(np.append(at.clip(0, len(x) - 1), (0, len(x) - 1)))
        x, y = x[kept], y[kept]
    return np.stack([x, y], axis=1).astype(np.float64)
