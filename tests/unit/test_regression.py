"""Errors of expectations: right numbers, beside guesses that know only the past."""

from __future__ import annotations

import numpy as np
import pytest

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.evaluation.purchase import Samples
from shopintent.trainer.evaluation.regression import (
    Expected,
    Truth,
    error_rows,
    of_errors,
    order_rows,
)
from shopintent.trainer.prefixes import Prefixes, visit_prefixes
from shopintent.trainer.sequences import Sequences
from support.learning import BUY, GAP_S, VIEW, Did, sequences_of

DAY_S = 86_400
CUT = 30 * DAY_S
UNTIL = 60 * DAY_S


def weekly(n: int, *, every_days: int, units: int) -> list[Did]:
    """Returns a shopper who buys on a fixed day, always as much, with a look the day before."""
    days = range(n % 3, UNTIL // DAY_S, every_days)
    return [
        event
        for day in days
        for event in (
            Did(day * DAY_S + 100, VIEW),
            Did((day + 1) * DAY_S, BUY, units=units),
        )
    ]


def prefixes_of(sequences: Sequences, start: int, end: int) -> Prefixes:
    return visit_prefixes(
        sequences,
        lengths=(1,),
        visits_from=start,
        visits_until=end,
        observed_until=end,
        horizons_s=(60,),
        session_gap_s=GAP_S,
        cut_before_purchase=False,
    )


@pytest.fixture
def sequences() -> Sequences:
    return sequences_of(
        [weekly(n, every_days=7 if n % 2 else 4, units=1 + n % 5) for n in range(24)]
    )


def rows_of_ours(sequences: Sequences, ours: list[Expected], judged: Prefixes) -> list[MetricRow]:
    samples = Samples("time", judged.lengths, judged.shoppers, {})
    return order_rows(
        samples,
        sequences,
        prefixes_of(sequences, 0, CUT),
        judged,
        ours,
        window_s=10 * DAY_S,
        cut=CUT,
        observed_until=UNTIL,
    )


def value(rows: list[MetricRow], model: str, metric: str) -> float:
    (found,) = (
        row for row in rows if (row.model, row.metric, row.prefix) == (model, metric, "all")
    )
    return found.value


def test_guesses_know_the_shopper_and_ours_is_compared_with_each(sequences: Sequences) -> None:
    judged = prefixes_of(sequences, CUT, UNTIL + 1)
    nothing = np.ones(len(judged))
    rows = rows_of_ours(sequences, [Expected("shopintent", nothing, nothing, seed=3)], judged)
    # Always as much: their own mean is what they buy.
    assert value(rows, "shopper-mean", "quantity_mae") == 0
    assert value(rows, "constant", "quantity_mae") > 1
    assert value(rows, "last-interval", "time_to_purchase_within_factor_2") > 0.4
    ours = value(rows, "shopintent", "quantity_mae")
    difference = value(rows, "shopintent", "quantity_mae_minus_shopper-mean")
    assert difference == pytest.approx(ours)
    assert {row.split for row in rows} == {"time"}
    assert {row.seed for row in rows if row.model == "shopintent"} == {3}
    assert {row.horizon for row in rows if row.metric.startswith("time")} == {"240h"}
    assert all(row.samples for row in rows)
    intervals = [row.ci for row in rows if row.model == "constant" and row.ci is not None]
    assert any(low < high for low, high in intervals)


def test_a_model_that_says_nothing_of_one_has_no_rows_of_it(sequences: Sequences) -> None:
    judged = prefixes_of(sequences, CUT, UNTIL + 1)
    rows = rows_of_ours(sequences, [Expected("shopintent", None, np.ones(len(judged)))], judged)
    metrics = {row.metric for row in rows if row.model == "shopintent"}
    assert "quantity_mae" in metrics
    assert not any(metric.startswith("time") for metric in metrics)


def test_requests_near_the_end_are_not_judged_by_time(sequences: Sequences) -> None:
    """Only early orders could be seen of them, which would flatter short guesses."""
    late = prefixes_of(sequences, UNTIL - 5 * DAY_S, UNTIL + 1)
    rows = rows_of_ours(sequences, [], late)
    assert {row.metric.partition("_")[0] for row in rows} == {"quantity"}


def test_without_orders_there_are_no_rows() -> None:
    nobody = sequences_of([[Did(n * DAY_S, VIEW) for n in range(60)] for _ in range(3)])
    assert rows_of_ours(nobody, [], prefixes_of(nobody, CUT, UNTIL + 1)) == []


def test_errors_are_those_worked_out_by_hand() -> None:
    expected, actual = np.array([1.0, 4.0, 10.0]), np.array([2, 4, 4])
    found = of_errors(expected, actual)(np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]]))
    assert found["mae"] == pytest.approx([7 / 3, 2])
    assert found["median_ae"] == pytest.approx([1, 0])
    assert found["rmse"] == pytest.approx([np.sqrt(37 / 3), np.sqrt(12)])
    logs = np.log([2 / 3, 1, 11 / 5]) ** 2
    assert found["rmsle"] == pytest.approx([np.sqrt(logs.mean()), np.sqrt(logs[2] / 3)])
    assert found["within_factor_2"] == pytest.approx([2 / 3, 2 / 3])
    assert found["bias"] == pytest.approx([0.5, 0.5])


def test_groups_are_judged_by_themselves() -> None:
    samples = Samples("time", np.array([1, 1, 2]), np.arange(3), {"cold": np.array([1, 0, 0]) > 0})
    truth = Truth("quantity", np.array([2, 4, 6]), np.array([True, True, True]), None)
    rows = error_rows(samples, truth, [("constant", None, np.full(3, 2.0))])
    found = {(row.prefix, row.slice): row.value for row in rows if row.metric == "quantity_mae"}
    assert found == {("all", "all"): 2, ("1", "all"): 1, ("2", "all"): 4, ("all", "cold"): 0}
