"""The report: it says what was measured, also when that is bad or when there is little to tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shopintent.trainer.data.prepared import Dataset, DatasetInfo
from shopintent.trainer.evaluation.evaluate import (
    BASELINE,
    CONSTANT,
    MODEL,
    POPULAR,
    Evaluation,
    PurchaseResult,
    slices_of,
)
from shopintent.trainer.evaluation.metrics import (
    action_metrics,
    probability_metrics,
    ranking_metrics,
)
from shopintent.trainer.evaluation.report import (
    as_markdown,
    horizon_name,
    plot_name,
    purchase_section,
    verdict,
    write_report,
)
from support.learning import make_run

N = 400
PNG = b"\x89PNG"


def dataset() -> Dataset:
    info = DatasetInfo(
        format_version=1, mapping="test shop", event_types=("view-product", "purchase"),
        observed_from=0, observed_until=1_800_000_000, session_rule="gap", session_gap_s=1800,
        currency="EUR", n_events=12_345, n_sessions=900, n_shoppers=400, n_products=77,
    )  # fmt: skip
    return Dataset(Path("prepared"), info)


def result(by_model: dict[str, NDArray[np.float64]], labels: NDArray[np.bool_]) -> PurchaseResult:
    rng = np.random.default_rng(0)
    slices = slices_of(rng.choice([1, 2, 20], len(labels)), rng.random(len(labels)) < 0.5)
    metrics = {
        name: {each: probability_metrics(p[rows], labels[rows]) for each, rows in slices.items()}
        for name, p in by_model.items()
    }
    return PurchaseResult(1800, metrics, by_model, labels)


def judged(*, ours: float, theirs: float) -> PurchaseResult:
    """Returns a result in which each knows so much of the truth."""
    rng = np.random.default_rng(1)
    labels = rng.random(N) < 0.2

    def knowing(share: float) -> NDArray[np.float64]:
        signal = np.where(labels, 1.0, -1.0) * share + rng.normal(size=N)
        p: NDArray[np.float64] = 1 / (1 + np.exp(-signal))
        return p

    constant = np.full(N, 0.2)
    return result({MODEL: knowing(ours), CONSTANT: constant, BASELINE: knowing(theirs)}, labels)


def evaluation(*purchases: PurchaseResult) -> Evaluation:
    ranks = np.arange(30)
    return Evaluation(
        n_samples=N,
        n_undecided=N - 7,
        n_shoppers=90,
        n_cold_shoppers=12,
        purchases=list(purchases),
        actions={MODEL: action_metrics(np.full((5, 2), 0.5), np.zeros(5, np.int64))},
        products={MODEL: ranking_metrics(ranks, np.zeros((30, 10), np.int64), 77), POPULAR: None},
        n_next_products=31,
    )


def test_the_verdict_says_above_when_above() -> None:
    text = verdict(judged(ours=2.0, theirs=0.3))
    assert text.count("above") == 2
    assert "BELOW" not in text


def test_the_verdict_says_below_when_below() -> None:
    worse = judged(ours=0.3, theirs=2.0)
    text = verdict(worse)
    assert text.count("BELOW") == 2
    assert "above" not in text
    ours, theirs = worse.by_model[MODEL]["all"], worse.by_model[BASELINE]["all"]
    assert ours is not None
    assert theirs is not None
    assert f"ROC-AUC is {theirs.roc_auc - ours.roc_auc:.4f} BELOW" in text
    assert text in "\n".join(purchase_section(worse))


def test_without_purchases_or_baseline_there_is_no_verdict() -> None:
    nobody = result({MODEL: np.full(20, 0.1), CONSTANT: np.zeros(20)}, np.zeros(20, bool))
    assert verdict(nobody) == "Too few purchases to compare."


def test_all_files_are_written_and_hold_something(tmp_path: Path) -> None:
    purchases = judged(ours=2.0, theirs=0.5)
    write_report(tmp_path / "e", make_run(tmp_path), dataset(), evaluation(purchases))
    names = {path.name for path in (tmp_path / "e").iterdir()}
    plots = {plot_name(purchases), "training.png"}
    assert names == {"evaluation.json", "evaluation.md"} | plots
    for name in plots:
        content = (tmp_path / "e" / name).read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 5_000
    written = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    metrics = purchases.by_model[MODEL]["all"]
    assert metrics is not None
    own = written["purchase"][0]["models"][MODEL]["all"]
    assert own["roc_auc"] == pytest.approx(metrics.roc_auc)
    assert written["shoppers"] == 90


def test_the_markdown_names_the_data_the_split_and_every_plot(tmp_path: Path) -> None:
    purchases = judged(ours=1.0, theirs=0.5)
    text = as_markdown(make_run(tmp_path), dataset(), evaluation(purchases))
    for said in (
        "# Evaluation on test shop",
        "400 shoppers, 77 products, 12,345 events",
        "2023-11-14 22:13+00:00 UTC",
        "400 prefixes",
        "393 in which nothing was bought yet",
        "12 of whom training never saw",
        "Seed 7",
        "## Purchase within 30 minutes",
        f"]({plot_name(purchases)})",
        "](training.png)",
        "| cold shoppers |",
        f"| {POPULAR} | - |",
    ):
        assert said in text


def test_a_held_out_part_without_purchases_gives_a_report(tmp_path: Path) -> None:
    nobody = result({MODEL: np.full(20, 0.1), CONSTANT: np.zeros(20)}, np.zeros(20, bool))
    write_report(tmp_path / "e", make_run(tmp_path), dataset(), evaluation(nobody))
    text = (tmp_path / "e" / "evaluation.md").read_text()
    assert "Too few samples to tell." in text
    assert (tmp_path / "e" / plot_name(nobody)).read_bytes().startswith(PNG)


def test_a_horizon_beyond_the_log_gives_a_report_without_its_plot(tmp_path: Path) -> None:
    none = np.zeros(0)
    unknown = result({MODEL: none, CONSTANT: none}, np.zeros(0, bool))
    unknown = replace(unknown, horizon_s=604_800)
    write_report(tmp_path / "e", make_run(tmp_path), dataset(), evaluation(unknown))
    text = (tmp_path / "e" / "evaluation.md").read_text()
    assert "## Purchase within 7 days\n\nNo visit can be judged" in text
    assert not (tmp_path / "e" / plot_name(unknown)).exists()
    assert plot_name(unknown) not in text


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (1800, "30 minutes"),
        (3600, "1 hour"),
        (86_400, "1 day"),
        (604_800, "7 days"),
        (61, "61 seconds"),
    ],
)
def test_horizons_are_named_in_the_largest_whole_unit(seconds: int, name: str) -> None:
    assert horizon_name(seconds) == name
