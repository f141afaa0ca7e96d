"""Judges how long it takes until the next order and how many units it has, beside simple guesses.

The expectation is a mean, and a few late or large orders make means: the root of the mean squared
error is what it minimizes, while the mean absolute error is smallest for a median. Both are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.evaluation.bootstrap import Measure, bootstrap
from shopintent.trainer.evaluation.comparison import Judged, difference_rows, rows_of
from shopintent.trainer.evaluation.metrics import of_means
from shopintent.trainer.evaluation.purchase import Samples
from shopintent.trainer.evaluation.rows import horizon_name
from shopintent.trainer.orders import in_window, next_orders, past_orders
from shopintent.trainer.prefixes import Prefixes
from shopintent.trainer.sequences import Sequences

MEAN, MEDIAN = "constant", "constant-median"
LAST_INTERVAL, OWN_MEAN = "last-interval", "shopper-mean"
TIME, QUANTITY = "time_to_purchase", "quantity"
COMPARED = ("mae", "rmse", "rmsle")

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Expected:
    """What one fit of a model expects of N requests."""

    model: str
    time_to_purchase_s: Floats | None  # [N]; None where it does not say
    quantity: Floats | None  # [N]
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Truth:
    """What came of N requests, and what of it can be told."""

    name: str
    values: NDArray[np.int64]  # [N]
    known: NDArray[np.bool_]  # [N]
    horizon: str | None


def order_rows(
    samples: Samples,
    sequences: Sequences,
    learned: Prefixes,
    judged: Prefixes,
    ours: Sequence[Expected],
    *,
    window_s: int,
    cut: int,
    observed_until: int,
) -> list[MetricRow]:
    """Returns the error rows of both expectations, `samples` being the prefixes judged.

    Seconds until an order are judged where it came within the window; the guesses know the prefixes
    learned from, before the cut, and the shopper's own past orders.
    """
    known = truths(sequences, learned, window_s=window_s, observed_until=cut - 1)
    judging = truths(sequences, judged, window_s=window_s, observed_until=observed_until)
    guesses = (
        [*constants(known[0], judged, TIME), last_interval(known[0], sequences, judged)],
        [*constants(known[1], judged, QUANTITY), own_mean(known[1], sequences, judged)],
    )
    rows = []
    for truth, guessed, field in zip(
        judging, guesses, ("time_to_purchase_s", "quantity"), strict=True
    ):
        said = [
            (each.model, each.seed, getattr(each, field))
            for each in ours
            if getattr(each, field) is not None
        ]
        rows += error_rows(samples, truth, [*said, *((m, None, values) for m, values in guessed)])
    return rows


def truths(
    sequences: Sequences, prefixes: Prefixes, *, window_s: int, observed_until: int
) -> tuple[Truth, Truth]:
    """Returns when the next order came after each prefix, and how many units it had."""
    orders = next_orders(sequences, prefixes, observed_before=observed_until + 1)
    soon = in_window(orders, prefixes, window_s=window_s, observed_until=observed_until)
    return (
        Truth(TIME, orders.seconds, soon, horizon_name(window_s)),
        Truth(QUANTITY, orders.units, orders.units > 0, None),
    )


def constants(known: Truth, judged: Prefixes, name: str) -> list[tuple[str, Floats]]:
    """Returns the mean and the median of what was learned from; 1 where nothing was."""
    values = known.values[known.known]
    centers = (values.mean(), np.median(values)) if len(values) else (1.0, 1.0)
    return [
        (model, np.full(len(judged), float(center)))
        for model, center in zip((MEAN, MEDIAN), centers, strict=True)
    ]


def last_interval(known: Truth, sequences: Sequences, judged: Prefixes) -> tuple[str, Floats]:
    """Returns the time between the shopper's last two orders; the median where there are none."""
    (_, _), (_, median) = constants(known, judged, TIME)
    longest = known.values[known.known].max(initial=1)
    interval = past_orders(sequences, judged).interval_s
    return LAST_INTERVAL, np.where(interval > 0, interval.clip(1, longest), median)


def own_mean(known: Truth, sequences: Sequences, judged: Prefixes) -> tuple[str, Floats]:
    """Returns the mean units of the shopper's orders; the median of all where there are none."""
    (_, _), (_, median) = constants(known, judged, QUANTITY)
    past = past_orders(sequences, judged)
    return OWN_MEAN, np.where(past.counts > 0, past.units / past.counts.clip(1), median)


def error_rows(
    samples: Samples, truth: Truth, said: Sequence[tuple[str, int | None, Floats]]
) -> list[MetricRow]:
    """Returns the rows of every (model, seed, expectations [N]) on all known samples and groups."""
    if not truth.known.any():
        return []
    rows = []
    for prefix, name, group in samples.groups(truth.known):
        judged = []
        for model, seed, values in said:
            found = bootstrap(
                of_errors(values[group], truth.values[group]), samples.shoppers[group]
            )
            named = {f"{truth.name}_{metric}": estimate for metric, estimate in found.items()}
            judged.append(Judged(model, seed, named))
        protocol: dict[str, Any] = {
            "split": samples.split, "prefix": prefix, "slice": name, "samples": int(group.sum()),
            "horizon": truth.horizon,
        }  # fmt: skip
        compared = tuple(f"{truth.name}_{metric}" for metric in COMPARED)
        rows += rows_of(judged, **protocol) + difference_rows(judged, compared, **protocol)
    return rows


def of_errors(expected: Floats, actual: NDArray[np.int64]) -> Measure:
    """Returns a measure of how far [N] expectations are from what came, both above 0.

    mae, median_ae and rmse are in the unit of the numbers; rmsle is that of their log1p;
    within_factor_2 is the share of expectations of at least half and at most twice what came; and
    bias is by what part the sum of expectations is too high.
    """
    errors = np.abs(expected - actual)
    means = of_means(
        {
            "mae": errors,
            "squared": errors**2,
            "squared_log": (np.log1p(expected) - np.log1p(actual)) ** 2,
            "within_factor_2": np.abs(np.log(expected / actual)) <= np.log(2),
            "expected": expected,
            "actual": actual.astype(np.float64),
        }
    )
    order = np.argsort(errors)

    def measure(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        found = means(weights)
        below = weights[:, order].cumsum(1)
        middle = (below >= below[:, -1:] / 2).argmax(1)
        return {
            "mae": found["mae"],
            "median_ae": errors[order][middle],
            "rmse": np.sqrt(found["squared"]),
            "rmsle": np.sqrt(found["squared_log"]),
            "within_factor_2": found["within_factor_2"],
            "bias": found["expected"] / found["actual"] - 1,
        }

    return measure
