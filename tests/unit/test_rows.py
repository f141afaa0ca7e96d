"""metrics.json: every row says by what protocol it was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.evaluation.rows import horizon_name, write_metrics

ROW = MetricRow(model="shopintent", metric="pr_auc", value=0.25, ci=(0.2, 0.3), split="time")


def test_the_file_holds_the_protocol_and_every_row(tmp_path: Path) -> None:
    ranked = MetricRow(
        model="popular", metric="hr", value=0.5, split="leave-one-out", seen_filter=True, k=10,
        seed=7, slice="cold-products", samples=12,
    )  # fmt: skip
    path = write_metrics(tmp_path / "made" / "here", {"data": "beauty"}, [ROW, ranked])
    content = json.loads(path.read_text("utf-8"))
    assert content["format_version"] == 1
    assert content["protocol"] == {"data": "beauty"}
    assert content["rows"] == [
        {
            "model": "shopintent", "metric": "pr_auc", "value": 0.25, "ci": [0.2, 0.3],
            "split": "time", "seen_filter": None, "k": None, "prefix": "all", "horizon": None,
            "seed": None, "slice": "all", "samples": None,
        },
        {
            "model": "popular", "metric": "hr", "value": 0.5, "ci": None,
            "split": "leave-one-out", "seen_filter": True, "k": 10, "prefix": "all",
            "horizon": None, "seed": 7, "slice": "cold-products", "samples": 12,
        },
    ]  # fmt: skip


def test_a_prefix_of_some_events_is_a_number_in_the_file() -> None:
    row = MetricRow(model="m", metric="ece", value=0.0, split="time", prefix="10", horizon="24h")
    assert row.as_json()["prefix"] == 10
    assert ROW.as_json()["prefix"] == "all"


def test_nothing_but_the_file_is_left_behind(tmp_path: Path) -> None:
    write_metrics(tmp_path, {}, [])
    write_metrics(tmp_path, {}, [ROW])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_not_is_refused_by_name(number: float) -> None:
    with pytest.raises(ValueError, match="pr_auc of shopintent"):
        MetricRow(model="shopintent", metric="pr_auc", value=number, split="time")
    with pytest.raises(ValueError, match="pr_auc of shopintent"):
        MetricRow(model="shopintent", metric="pr_auc", value=0.5, ci=(0.1, number), split="time")


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(1_800, "30m"), (3_600, "1h"), (86_400, "24h"), (604_800, "7d"), (90, "90s")],
)
def test_horizons_are_named_as_people_say_them(seconds: int, name: str) -> None:
    assert horizon_name(seconds) == name
