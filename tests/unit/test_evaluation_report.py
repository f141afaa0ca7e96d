"""The report: one page without network, and every number of metrics.json is on it."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.evaluation.presentation import METRICS, color_of, metric_of, number, ordered
from shopintent.trainer.evaluation.purchase import (
    PurchaseCurves,
    Purchases,
    Said,
    Samples,
    action_rows,
    purchase_curves,
    purchase_rows,
)
from shopintent.trainer.evaluation.report import console_tables, write_report
from shopintent.trainer.evaluation.sections import Report, headlines, sections
from shopintent.trainer.evaluation.tables import Cell, Column, difference_cell, model_table

N = 300
MODELS = ("shopintent", "shopintent-sequence-only", "constant", "logistic")


def said() -> list[Said]:
    rng = np.random.default_rng(1)
    return [
        Said(model, rng.random((N, 2)), seed=7 if "shop" in model else None) for model in MODELS
    ]


def purchases() -> tuple[Samples, Purchases]:
    rng = np.random.default_rng(2)
    samples = Samples(
        "time",
        rng.choice([1, 20], N),
        rng.integers(0, 90, N),
        {"cold-shoppers": rng.random(N) < 0.4},
    )
    labels = rng.random((N, 2)) < 0.2
    return samples, Purchases(("session", "24h"), labels, np.ones((N, 2), bool))


def ranked(model: str, value: float, **changes: object) -> MetricRow:
    row = MetricRow(
        model=model, metric="ndcg", value=value, ci=(value - 0.01, value + 0.01), split="time",
        seen_filter=True, k=10, samples=500,
    )  # fmt: skip
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def curves() -> list[PurchaseCurves]:
    samples, came = purchases()
    return purchase_curves(samples, came, said())


@pytest.fixture(scope="module")
def report(curves: list[PurchaseCurves]) -> Report:
    samples, came = purchases()
    rng = np.random.default_rng(3)
    actions = [Said(model, rng.dirichlet(np.ones(3), N)) for model in ("shopintent", "markov")]
    rows = purchase_rows(samples, came, said())
    rows += action_rows(samples, rng.integers(0, 3, N), actions)
    for k in (1, 10):
        rows += [ranked("shopintent", 0.06, k=k, seed=seed) for seed in (1, 2)]
        rows += [
            ranked("item-knn", 0.05, k=k),
            ranked("item-knn", 0.02, k=k, slice="cold-products"),
        ]
    rows += [ranked("shopintent", 0.01, metric="ndcg_minus_item-knn")]
    rows += [ranked(model, 0.4, metric="coverage", ci=None) for model in ("shopintent", "item-knn")]
    rows += [
        MetricRow(model="shopintent", metric="quantity_mae", value=2.5, split="time", samples=9)
    ]
    rows += [MetricRow(model="shopintent", metric="unheard_of", value=0.123456, split="time")]
    history = [
        {"epoch": n, "train_product": 3.0 - n, "validation_product": 3.5 - n} for n in (0, 1)
    ]
    protocol = {"data": "a <b>shop</b>", "seeds": [1, 2], "models": {"item-knn": {"fading": 0.7}}}
    return Report("Evaluation on tests", "300 of them", protocol, rows, curves, history, 1)


@pytest.fixture(scope="module")
def folder(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("evaluation") / "of" / "run"
    write_report(made, report)
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_there_is_one_page_and_one_file_of_numbers(folder: Path, report: Report) -> None:
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "report.html"}
    assert len(json.loads((folder / "metrics.json").read_text())["rows"]) == len(report.rows)


def test_the_page_needs_no_network(page: str) -> None:
    assert "<script" not in page
    for attribute in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert attribute.startswith(("data:image/svg+xml;base64,", "#")), attribute[:60]
    assert "@import" not in page
    assert "url(" not in page


def test_every_number_is_on_the_page(page: str, report: Report) -> None:
    cells = set(re.findall(r"<td>([^<]*)</td>", page))
    assert {f"{row.value:.6g}" for row in report.rows} <= cells
    assert {row.metric for row in report.rows} <= cells


def test_the_page_tells_the_protocol_as_text(page: str) -> None:
    assert html.escape("a <b>shop</b>") in page
    assert "<b>shop</b>" not in page
    for word in ("seeds", "1, 2", "fading", "0.7"):
        assert word in page


def test_every_plot_says_what_it_shows(page: str) -> None:
    images = re.findall(r'<img alt="([^"]*)"', page)
    assert len(images) >= 2 * 4 + 2
    assert all(len(alt) > 20 for alt in images)


def test_what_was_judged_has_a_section_of_its_own(report: Report) -> None:
    assert [section.title for section in sections(report)] == [
        "Next product, time, seen products filtered",
        "Purchase later in the visit, time split",
        "Purchase within 24h, time split",
        "Next action, time split",
        "Quantity",
        "Other numbers",
        "Training",
    ]


def test_a_report_of_nothing_is_still_a_page(tmp_path: Path) -> None:
    report = Report("Nothing", "no visits", {}, [])
    write_report(tmp_path, report)
    assert sections(report) == []
    assert "Nothing" in (tmp_path / "report.html").read_text()


def test_the_same_evaluation_gives_the_same_page(report: Report, page: str, tmp_path: Path) -> None:
    write_report(tmp_path, report)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_the_console_shows_the_main_tables(report: Report) -> None:
    console = Console(width=240)
    with console.capture() as captured:
        for table in console_tables(report):
            console.print(table)
    text = captured.get()
    for word in ("NDCG@10", "PR-AUC", "logistic", "markov", "shopintent minus constant"):
        assert word in text


def test_the_best_of_a_column_is_marked_and_several_seeds_are_one_mean() -> None:
    rows = [
        ranked("shopintent", 0.06, seed=1), ranked("shopintent", 0.07, seed=2),
        ranked("item-knn", 0.05), ranked("popular", 0.01),
    ]  # fmt: skip
    table = model_table(rows, [(Column("NDCG@10"), "ndcg", lambda row: True)], title="t")
    assert table is not None
    assert [name for name, _ in table.lines] == ["shopintent", "popular", "item-knn"]
    ours, popular, knn = (cells[0] for _, cells in table.lines)
    assert (ours.text, ours.mark) == ("0.0650", "best")
    assert ours.note == "± 0.0071, 2 seeds"
    assert (knn.note, knn.mark) == ("0.0400 to 0.0600", "")
    assert popular.mark == ""


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("log_loss", {"a": 0.2, "b": 0.3}, {"a"}),
        ("calibration_slope", {"a": 1.3, "b": 0.9}, {"b"}),
        ("pr_auc", {"a": 0.2, "b": 0.2, "c": 0.1}, {"a", "b"}),
        ("pr_auc", {"a": 0.2, "b": 0.2}, set()),
        ("popularity", {"a": 1.0, "b": 9.0}, set()),
    ],
)
def test_best_is_what_the_metric_calls_better(
    metric: str, values: dict[str, float], best: set[str]
) -> None:
    rows = [MetricRow(model=m, metric=metric, value=v, split="time") for m, v in values.items()]
    table = model_table(rows, [(Column("x"), metric, lambda row: True)], title="t")
    assert table is not None
    assert {name for name, cells in table.lines if cells[0].mark == "best"} == best


@pytest.mark.parametrize(
    ("metric", "value", "ci", "mark", "word"),
    [
        ("pr_auc", 0.02, (0.01, 0.03), "above", "above"),
        ("pr_auc", -0.02, (-0.03, -0.01), "below", "BELOW"),
        ("log_loss", -0.02, (-0.03, -0.01), "above", "above"),
        ("log_loss", 0.02, (0.01, 0.03), "below", "BELOW"),
        ("pr_auc", 0.02, (-0.01, 0.05), "", ""),
    ],
)
def test_a_difference_is_called_above_or_below_only_where_its_interval_leaves_out_0(
    metric: str, value: float, ci: tuple[float, float], mark: str, word: str
) -> None:
    row = MetricRow(
        model="shopintent", metric=f"{metric}_minus_x", value=value, ci=ci, split="time"
    )
    cell = difference_cell([row], metric_of(metric))
    assert cell.mark == mark
    assert ("above" in cell.note or "BELOW" in cell.note) == bool(word)
    assert word in cell.note


def test_several_seeds_are_above_only_where_all_their_intervals_are() -> None:
    def cell(*bounds: tuple[float, float]) -> Cell:
        rows = [ranked("shopintent", sum(ci) / 2, ci=ci, seed=n) for n, ci in enumerate(bounds)]
        return difference_cell(rows, metric_of("ndcg"))

    assert cell((0.01, 0.03), (0.02, 0.04)) == Cell("+0.0250", "above, 2 seeds", "above")
    assert cell((0.01, 0.03), (-0.01, 0.04)) == Cell("+0.0175", "2 seeds", "")


def test_a_difference_without_an_interval_is_too_little_to_tell() -> None:
    row = MetricRow(model="shopintent", metric="pr_auc_minus_x", value=0.5, split="time")
    assert difference_cell([row], metric_of("pr_auc")) == Cell("+0.5000", "too few to tell", "")


def test_the_headline_is_ours_beside_the_best_baseline(report: Report) -> None:
    (first, *others) = headlines(report.rows)
    assert first.label == "NDCG@10, time, seen products filtered"
    assert first.value == "0.0600"
    assert first.note.startswith("item-knn 0.0500")
    assert [each.label for each in others][:2] == [
        "PR-AUC, purchase within session",
        "ECE, purchase within session",
    ]


def test_models_come_in_one_order_and_color() -> None:
    names = ["lightgbm", "zebra", "shopintent-fused", "constant", "shopintent", "apple"]
    assert ordered(names) == [
        "shopintent", "shopintent-fused", "constant", "lightgbm", "apple", "zebra",
    ]  # fmt: skip
    colors = {name: color_of(name, names) for name in names}
    assert len(set(colors.values())) == len(names)


def test_numbers_read_as_people_write_them() -> None:
    assert number(0.12345, METRICS["pr_auc"]) == "0.1235"
    assert number(0.12345, METRICS["coverage"]) == "12.3 %"
    assert number(0.5, METRICS["pr_auc"], sign=True) == "+0.5000"
    assert number(18_009.4, METRICS["time_to_purchase_mae"]) == "18,009"
    assert metric_of("ndcg_minus_item-knn").label == "NDCG minus item-knn"
    assert metric_of("new_thing").label == "new thing"
