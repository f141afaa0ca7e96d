"""Gates of a release: they refuse what is surely wrong, and say why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shopintent.artifacts.metrics import Gate, MetricRow, failed_gates, worse_than

pytestmark = pytest.mark.releases

ROW = MetricRow(
    model="shopintent", metric="pr_auc", value=0.30, ci=(0.28, 0.32), split="time", horizon="24h"
)


@pytest.mark.parametrize(
    ("gate", "passed"),
    [
        (None, True),
        (Gate(at_least=0.1), True),
        (Gate(at_least=0.31), True),  # The interval reaches there.
        (Gate(at_least=0.33), False),
        (Gate(at_most=0.29), True),
        (Gate(at_most=0.27), False),
        (Gate(at_least=0.33, at_most=0.5), False),
        (Gate(at_least=0.0, at_most=1.0), True),
    ],
)
def test_a_gate_fails_where_the_whole_interval_misses_it(gate: Gate | None, passed: bool) -> None:
    row = replace(ROW, gate=gate)
    assert (row.failure is None) is passed
    assert bool(failed_gates([ROW, row])) is not passed


def test_a_failed_gate_says_what_was_measured_and_what_is_asked_for() -> None:
    row = replace(ROW, gate=Gate(at_least=0.9, at_most=1.1))
    why = "pr_auc within 24h is 0.3 (0.28 to 0.32), it must be at least 0.9 and at most 1.1"
    assert failed_gates([row]) == [why]


def test_what_has_too_few_samples_for_an_interval_refuses_nothing() -> None:
    assert replace(ROW, ci=None, gate=Gate(at_least=0.9)).failure is None


def test_a_row_comes_back_from_json_with_and_without_a_gate() -> None:
    values = {"model": "m", "metric": "ece", "value": 0.1, "ci": [0.0, 0.2], "split": "time"}
    assert MetricRow.from_json(values).gate is None
    gated = MetricRow.from_json({**values, "gate": {"at_least": None, "at_most": 0.02}})
    assert gated.gate == Gate(at_most=0.02)
    assert gated.ci == (0.0, 0.2)


# Beside the release that serves


def test_a_release_that_is_surely_worse_beyond_the_margin_is_told() -> None:
    better = replace(ROW, value=0.40, ci=(0.38, 0.42))
    assert worse_than([ROW], [better]) == [
        "pr_auc within 24h is 0.3 (0.28 to 0.32), the serving release has 0.4 and at most 5% worse "
        "is allowed"
    ]
    assert worse_than([better], [ROW]) == []


def test_within_the_margin_or_the_interval_nothing_is_worse() -> None:
    assert worse_than([ROW], [replace(ROW, value=0.33)]) == []  # 0.3135 is in the interval.
    tight = replace(ROW, ci=(0.299, 0.301))
    assert worse_than([tight], [replace(ROW, value=0.31)]) == []
    assert worse_than([tight], [replace(ROW, value=0.33)]) != []


def test_a_higher_loss_is_worse() -> None:
    loss = replace(ROW, metric="log_loss")
    assert worse_than([loss], [replace(loss, value=0.2, ci=None)]) != []
    assert worse_than([replace(loss, value=0.2, ci=None)], [loss]) == []


@pytest.mark.parametrize(
    "other",
    [
        {"metric": "brier"},
        {"horizon": "7d"},
        {"split": "leave-one-out"},
        {"prefix": "3"},
        {"model": "logistic"},
    ],
)
def test_only_what_both_measured_is_compared(other: dict[str, str]) -> None:
    before = replace(ROW, value=0.9, ci=None, **other)  # type: ignore[arg-type]
    assert worse_than([ROW], [before]) == []


def test_margins_may_be_others() -> None:
    brier = replace(ROW, metric="brier")
    assert worse_than([brier], [replace(brier, value=0.1)], {"brier": 0.1}) != []
