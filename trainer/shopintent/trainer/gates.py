"""What the evaluation of a run says about releasing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shopintent.artifacts.manifest import Calibration
from shopintent.artifacts.metrics import ALL, Gate, MetricRow
from shopintent.trainer.evaluation.comparison import OURS
from shopintent.trainer.evaluation.rows import FORMAT_VERSION, METRICS_FILE
from shopintent.trainer.run import Run, weights_digest

FOLDER = "evaluation"
"""Of a run: where `evaluate` writes."""

GATES = {
    "ece": Gate(at_most=0.02),
    "calibration_slope": Gate(at_least=0.9, at_most=1.1),
    "pr_auc_minus_constant": Gate(at_least=0.0),
    "next_action_log_loss_minus_constant": Gate(at_most=0.0),
    "ndcg_minus_popular": Gate(at_least=0.0),
}
"""Probabilities must be believable, and every answer no worse than one that needs no model."""


def measured(run: Run) -> tuple[MetricRow, ...]:
    """Returns what the run's own evaluation says of all requests, with gates.

    It is empty when there is no evaluation, or only one of weights that were there before.
    """
    saved = read_metrics(run.folder / FOLDER / METRICS_FILE)
    if saved is None or saved["protocol"].get("run") != weights_digest(run.folder):
        return ()
    rows = [each for each in saved["rows"] if of_all_requests(each)]
    return tuple(
        MetricRow.from_json({**row, "gate": None if gate is None else vars(gate)})
        for row in rows
        for gate in [GATES.get(row["metric"])]
    )


def of_all_requests(row: dict[str, Any]) -> bool:
    """Returns whether a row is about our model and neither a slice nor a prefix."""
    return (row["model"], row["prefix"], row["slice"]) == (OURS, ALL, ALL)


def read_metrics(path: Path) -> dict[str, Any] | None:
    """Returns a metrics.json of today's version, None where there is none."""
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return saved if saved.get("format_version") == FORMAT_VERSION else None


def calibration_of(rows: Sequence[MetricRow]) -> tuple[Calibration, ...]:
    """Returns what the rows say of each horizon's probabilities."""
    by_horizon: dict[str, dict[str, MetricRow]] = {}
    for row in rows:
        if row.horizon is not None:
            by_horizon.setdefault(row.horizon, {})[row.metric] = row

    def value(metrics: dict[str, MetricRow], name: str) -> float | None:
        return metrics[name].value if name in metrics else None

    return tuple(
        Calibration(
            horizon=horizon,
            samples=metrics["ece"].samples,
            base_rate=value(metrics, "base_rate"),
            ece=value(metrics, "ece"),
            slope=value(metrics, "calibration_slope"),
            intercept=value(metrics, "calibration_intercept"),
        )
        for horizon, metrics in by_horizon.items()
        if "ece" in metrics
    )
