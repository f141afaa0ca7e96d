"""What an evaluation measured of a release, and the gates that it has to pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

ALL = "all"

MARGINS: Mapping[str, float] = {
    "ndcg": -0.05,
    "pr_auc": -0.05,
    "log_loss": 0.05,
    "next_action_log_loss": 0.05,
}
"""By how much, as a share of what the serving release has, a metric may be worse than there; the
sign says in which direction worse lies."""


@dataclass(frozen=True)
class Gate:
    """The bounds of one metric."""

    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One number of an evaluation, by what protocol it was measured, and the gate it has to pass,
    if any; what does not apply to it is None."""

    model: str
    """Ours begin with "shopintent"."""
    metric: str
    value: float
    ci: tuple[float, float] | None = None
    """The 95 % bootstrap confidence interval."""
    split: str
    """"leave-one-out" or "time"."""
    seen_filter: bool | None = None
    """Whether products of the shopper's history were kept out of the ranking."""
    k: int | None = None
    """The cut-off of a ranking."""
    prefix: str = ALL
    """How many events of the visit are known, or "all" lengths."""
    horizon: str | None = None
    """"session", "1h", "24h" or "7d"."""
    seed: int | None = None
    slice: str = ALL
    """"cold-shoppers", "warm-shoppers", "cold-products" and the like, or "all"."""
    samples: int | None = None
    gate: Gate | None = None

    def __post_init__(self) -> None:
        """Raises ValueError when a number is not finite: JSON has none such."""
        if not all(map(math.isfinite, (self.value, *(self.ci or ())))):
            raise ValueError(f"{self.metric} of {self.model} is not a finite number: {self}")

    def as_json(self) -> dict[str, Any]:
        """Returns the row as metrics.json holds it: without a gate, a prefix of k as a number."""
        prefix: str | int = int(self.prefix) if self.prefix.isdecimal() else self.prefix
        fields = asdict(self) | {"prefix": prefix}
        del fields["gate"]
        return fields

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MetricRow:
        """Returns the row of a metrics.json or a manifest."""
        ci, gate = values.get("ci"), values.get("gate")
        given = {
            **values,
            "ci": None if ci is None else (float(ci[0]), float(ci[1])),
            "prefix": str(values.get("prefix", ALL)),
            "gate": None if gate is None else Gate(**gate),
        }
        return cls(**given)

    @property
    def name(self) -> str:
        """What was measured, in words."""
        parts = [
            f"{self.metric}@{self.k}" if self.k is not None else self.metric,
            f"within {self.horizon}" if self.horizon is not None else "",
            "without products seen" if self.seen_filter else "",
        ]
        return " ".join(part for part in parts if part)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for rows of two evaluations that measured the same."""
        return (
            self.model, self.metric, self.split, self.seen_filter, self.k, self.prefix,
            self.horizon, self.slice,
        )  # fmt: skip

    @property
    def favorable(self) -> tuple[float, float]:
        """The lowest and the highest value that the evaluation does not speak against."""
        return self.ci or (self.value, self.value)

    @property
    def failure(self) -> str | None:
        """Why the gate is not passed: even the favorable end of the interval misses it."""
        if self.gate is None or self.ci is None:
            return None  # Too few samples for an interval are too few to refuse anything.
        low, high = self.ci
        missed = (self.gate.at_least is not None and high < self.gate.at_least) or (
            self.gate.at_most is not None and low > self.gate.at_most
        )
        if not missed:
            return None
        return f"{self.name} is {self.value:.4g} ({low:.4g} to {high:.4g}), it must be {self.gate}"


def failed_gates(rows: Iterable[MetricRow]) -> list[str]:
    """Returns why each gate that is not passed is not."""
    return [failure for row in rows if (failure := row.failure) is not None]


def worse_than(
    rows: Iterable[MetricRow],
    before: Iterable[MetricRow],
    margins: Mapping[str, float] = MARGINS,
) -> list[str]:
    """Returns in what a release is worse than the one before, beyond the margin.

    Only what both evaluations measured is compared, and the favorable end of the interval counts:
    two logs of different weeks differ by chance too.
    """
    known = {row.key: row for row in before if row.metric in margins}
    found = []
    for row in rows:
        theirs = known.get(row.key)
        if theirs is None:
            continue
        margin = margins[row.metric]
        bound = theirs.value + margin * abs(theirs.value)
        low, high = row.favorable
        if (high < bound) if margin < 0 else (low > bound):
            found.append(
                f"{row.name} is {row.value:.4g} ({low:.4g} to {high:.4g}), the serving release has "
                f"{theirs.value:.4g} and at most {abs(margin):.0%} worse is allowed"
            )
    return found
