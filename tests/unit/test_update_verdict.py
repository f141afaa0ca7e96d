"""What an update is refused for: old requests that are answered worse, by more than the margin."""

from __future__ import annotations

import pytest

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.update.verdict import NEWEST, OLD, changes, forgotten

MARGIN = 0.02


def rows(
    metric: str,
    serving: float,
    updated: float,
    *,
    ci: tuple[float, float] | None = None,
    split: str = OLD,
) -> list[MetricRow]:
    """Returns the rows of one metric of both, and of their difference with its interval."""
    ranked = metric in ("ndcg", "hr")
    horizon, k = (None, 10) if ranked else ("24h", None)
    values = {
        ("serving", metric): serving,
        ("shopintent", metric): updated,
        ("shopintent", f"{metric}_minus_serving"): updated - serving,
    }
    return [
        MetricRow(
            model=model, metric=name, value=value, split=split, k=k, horizon=horizon,
            ci=ci if "minus" in name else None,
        )
        for (model, name), value in values.items()
    ]  # fmt: skip


def test_a_ranking_that_falls_by_more_than_the_margin_is_refused_with_both_values() -> None:
    (reason,) = forgotten(rows("ndcg", 0.5, 0.48), MARGIN)
    assert reason == (
        "ndcg@10 is 0.4800 on the old slice, the serving release has 0.5000: 4.0% worse, and 2.0% "
        "is allowed"
    )
    assert forgotten(rows("ndcg", 0.5, 0.491), MARGIN) == []
    assert forgotten(rows("ndcg", 0.5, 0.48), 0.05) == []


def test_a_log_loss_that_rises_is_a_loss_and_one_that_falls_is_none() -> None:
    (reason,) = forgotten(rows("log_loss", 0.2, 0.21, ci=(0.005, 0.015)), MARGIN)
    assert "log_loss within 24h is 0.2100" in reason
    assert "5.0% worse" in reason
    assert forgotten(rows("log_loss", 0.2, 0.1, ci=(-0.2, -0.05)), MARGIN) == []


@pytest.mark.parametrize("ci", [(-0.09, 0.01), None])
def test_of_purchases_only_a_fall_that_is_certain_counts(ci: tuple[float, float] | None) -> None:
    assert forgotten(rows("pr_auc", 0.3, 0.26, ci=ci), MARGIN) == []
    assert forgotten(rows("pr_auc", 0.3, 0.26, ci=(-0.07, -0.01)), MARGIN)


def test_the_newest_slice_refuses_nothing() -> None:
    newest = rows("ndcg", 0.5, 0.3, split=NEWEST)
    assert forgotten(newest, MARGIN) == []
    (change,) = changes(newest, NEWEST)
    assert change.loss == pytest.approx(0.4)


def test_a_metric_that_the_release_has_not_is_not_compared() -> None:
    alone = [row for row in rows("pr_auc", 0.3, 0.1, ci=(-0.3, -0.1)) if row.model != "serving"]
    assert forgotten(alone, MARGIN) == []
