"""Ours beside every baseline, as rows of differences on the same resamples of shoppers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shopintent.trainer.evaluation.bootstrap import Estimate
from shopintent.trainer.evaluation.rows import Row

OURS = "shopintent"
MINUS = "_minus_"
LOWER_IS_BETTER = frozenset(
    {"log_loss", "brier", "ece", "popularity", "mae", "median_absolute_error", "mape", "rmse"}
)

Estimates = Mapping[str, Mapping[str, Estimate]]
"""Model to metric to estimate."""


def is_ours(model: str) -> bool:
    """Returns whether a model is one of ours rather than a baseline."""
    return model.startswith(OURS)


def rows_of(estimates: Estimates, seeds: Mapping[str, int | None], **protocol: Any) -> list[Row]:
    """Returns a row of every estimate; seeds are those of the models."""
    return [
        Row(
            model=model, metric=metric, value=estimate.value, ci=estimate.ci,
            seed=seeds.get(model), **protocol,
        )
        for model, metrics in estimates.items()
        for metric, estimate in metrics.items()
    ]  # fmt: skip


def difference_rows(
    estimates: Estimates, metrics: tuple[str, ...], seeds: Mapping[str, int | None], **protocol: Any
) -> list[Row]:
    """Returns ours minus each baseline, as metrics named "<metric>_minus_<baseline>"."""
    compared = {
        model: {
            f"{metric}{MINUS}{other}": mine[metric].minus(theirs[metric])
            for other, theirs in estimates.items()
            if not is_ours(other)
            for metric in metrics
            if metric in mine and metric in theirs
        }
        for model, mine in estimates.items()
        if is_ours(model)
    }
    return rows_of(compared, seeds, **protocol)
