"""What an update has won and lost beside the release it goes on from, and what is too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shopintent.artifacts.metrics import ALL, MetricRow
from shopintent.trainer.evaluation.comparison import MINUS, OURS

SERVING = "serving"
"""What the release that serves is called in tables."""
OLD, NEWEST = "old", "newest"
"""The slices: visits that the release was held out from, and the newest ones."""
RANKED = ("ndcg", "hr")
FORETOLD = ("pr_auc", "log_loss")
SIGNS = {"ndcg": -1, "hr": -1, "pr_auc": -1, "log_loss": 1}
"""In which direction worse lies."""


@dataclass(frozen=True)
class Change:
    """One metric of the serving release and of the update on the same requests."""

    row: MetricRow
    """Of the update."""
    serving: float
    difference: MetricRow | None

    @property
    def loss(self) -> float:
        """How much worse the update is, as a share; below 0 it is better."""
        return SIGNS[self.row.metric] * (self.row.value - self.serving) / max(self.serving, 1e-12)

    @property
    def certain(self) -> bool:
        """Whether the paired interval says which of the two is better."""
        ci = None if self.difference is None else self.difference.ci
        return ci is not None and not ci[0] <= 0 <= ci[1]


def changes(rows: Sequence[MetricRow], name: str) -> list[Change]:
    """Returns the judged metrics on all requests of a slice: lists of ten, purchases."""
    own = [
        row
        for row in rows
        if (row.split, row.prefix, row.slice) == (name, ALL, ALL) and row.k in (None, 10)
    ]

    def value_of(model: str, metric: str, horizon: str | None) -> MetricRow | None:
        wanted = (model, metric, horizon)
        return next((row for row in own if (row.model, row.metric, row.horizon) == wanted), None)

    found = []
    for row in own:
        if row.model != OURS or row.metric not in (*RANKED, *FORETOLD):
            continue
        theirs = value_of(SERVING, row.metric, row.horizon)
        if theirs is not None:
            difference = value_of(OURS, f"{row.metric}{MINUS}{SERVING}", row.horizon)
            found.append(Change(row, theirs.value, difference))
    return found


def forgotten(rows: Sequence[MetricRow], max_loss: float) -> list[str]:
    """Returns why an update must not be published: what got worse on the old slice.

    Rankings count by their values. Purchases are few, so that theirs count where the paired
    interval says that they are worse at all.
    """
    return [
        f"{change.row.name} is {change.row.value:.4f} on the old slice, the serving release "
        f"has {change.serving:.4f}: {change.loss:.1%} worse, and {max_loss:.1%} is allowed"
        for change in changes(rows, OLD)
        if change.loss > max_loss and (change.row.metric in RANKED or change.certain)
    ]


def table_values(rows: Sequence[MetricRow]) -> dict[str, Any]:
    """Returns the judged metrics by slice, name and model, for metrics.json's protocol."""
    return {
        name: {
            change.row.name: {
                SERVING: change.serving,
                "updated": change.row.value,
                "better": -change.loss,
            }
            for change in changes(rows, name)
        }
        for name in (OLD, NEWEST)
    }
