"""Ours beside every baseline, as rows of differences on the same resamples of shoppers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.evaluation.bootstrap import Estimate

OURS = "shopintent"
MINUS = "_minus_"


@dataclass(frozen=True, eq=False)
class Judged:
    """What was measured of one fit of a model."""

    model: str
    seed: int | None
    metrics: Mapping[str, Estimate]


def is_ours(model: str) -> bool:
    """Returns whether a model is one of ours rather than a baseline."""
    return model.startswith(OURS)


def rows_of(judged: Iterable[Judged], **protocol: Any) -> list[MetricRow]:
    """Returns a row of every metric of every fit."""
    return [
        MetricRow(
            model=each.model, metric=metric, value=estimate.value, ci=estimate.ci, seed=each.seed,
            **protocol,
        )
        for each in judged
        for metric, estimate in each.metrics.items()
    ]  # fmt: skip


def difference_rows(
    judged: Sequence[Judged], metrics: tuple[str, ...], **protocol: Any
) -> list[MetricRow]:
    """Returns ours minus each baseline, as metrics named "<metric>_minus_<baseline>".

    A baseline of several seeds is compared by the fit of our seed, if there is one.
    """
    compared = []
    for mine in judged:
        if not is_ours(mine.model):
            continue
        others: dict[str, Judged] = {}
        for other in judged:
            if not is_ours(other.model) and (other.model not in others or other.seed == mine.seed):
                others[other.model] = other
        differences = {
            f"{metric}{MINUS}{name}": mine.metrics[metric].minus(other.metrics[metric])
            for name, other in others.items()
            for metric in metrics
            if metric in mine.metrics and metric in other.metrics
        }
        compared.append(Judged(mine.model, mine.seed, differences))
    return rows_of(compared, **protocol)
