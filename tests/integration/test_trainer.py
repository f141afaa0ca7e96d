"""The trainer on a whole tiny shop: what it learns from, what it judges, and that it repeats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from shopintent.behavior.vocabulary import UNKNOWN
from shopintent.trainer import fit_network as fitting
from shopintent.trainer.data import Dataset
from shopintent.trainer.data.prepared import EVENTS_FILE, INFO_FILE
from shopintent.trainer.data.progress import silent
from shopintent.trainer.evaluation import bootstrap
from shopintent.trainer.evaluation import evaluate as evaluating
from shopintent.trainer.evaluation.evaluate import EvaluationError, evaluate
from shopintent.trainer.evaluation.report import write_report
from shopintent.trainer.run import Run
from shopintent.trainer.text import CACHE_FILE, MODEL_FILE, TOKENIZER_FILE
from shopintent.trainer.train import train
from shopintent.trainer.training_data import TrainingDataError
from support.trained import CONFIG, Trained


@pytest.fixture
def exported_encoder(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the text encoder of the run that is there instead of exporting it again."""

    def copy(name: str, folder: Path, *, max_tokens: int) -> None:
        for file in (MODEL_FILE, TOKENIZER_FILE, CACHE_FILE):
            (folder / file).write_bytes((trained.run.folder / file).read_bytes())

    monkeypatch.setattr(fitting, "export_text_encoder", copy)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws shoppers often enough for intervals, and no more."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 30)
    monkeypatch.setattr(bootstrap, "MIN_RESAMPLES", 30)


def changed(trained: Trained, folder: Path, events: pl.DataFrame) -> Dataset:
    """Returns a copy of the dataset with other events."""
    folder.mkdir()
    for file in trained.dataset.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    events.write_parquet(folder / EVENTS_FILE)
    info = json.loads((folder / INFO_FILE).read_text())
    times = events["event_time"]
    span = {"observed_from": times.min(), "observed_until": times.max()}
    (folder / INFO_FILE).write_text(json.dumps(info | span))
    return Dataset.open(folder)


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return run.network.state_dict()


def test_a_run_opened_again_is_the_run_that_was_trained(trained: Trained) -> None:
    opened = Run.open(trained.run.folder)
    assert opened.info == trained.run.info
    for name, weight in weights_of(trained.run).items():
        assert torch.equal(weights_of(opened)[name], weight)


@pytest.mark.usefixtures("exported_encoder")
def test_the_same_seed_trains_the_same_run(trained: Trained, tmp_path: Path) -> None:
    again = train(trained.dataset, CONFIG, tmp_path / "again", silent)
    assert again.info.history == trained.run.info.history
    assert again.tokenizer.fingerprint == trained.run.tokenizer.fingerprint
    for name, weight in weights_of(trained.run).items():
        assert torch.equal(weights_of(again)[name], weight), name


@pytest.mark.usefixtures("exported_encoder")
def test_nothing_from_the_held_out_time_on_changes_a_run(trained: Trained, tmp_path: Path) -> None:
    """Every held-out event becomes a purchase of one product: the run must not notice."""
    events = trained.dataset.events().collect()
    cut = trained.run.info.cut_time
    late = pl.col("event_time") >= cut
    product = events.filter(pl.col("product_id") != "")["product_id"][0]
    other = events.with_columns(
        pl.when(late).then(pl.lit("purchase")).otherwise("event_type").alias("event_type"),
        pl.when(late).then(pl.lit(product)).otherwise("product_id").alias("product_id"),
    )
    assert not other.equals(events)
    dataset = changed(trained, tmp_path / "data", other)
    run = train(dataset, CONFIG, tmp_path / "run", silent)
    assert run.info.cut_time == cut
    assert run.tokenizer.fingerprint == trained.run.tokenizer.fingerprint
    for name, weight in weights_of(trained.run).items():
        assert torch.equal(weights_of(run)[name], weight), name


def test_the_tokenizer_knows_the_products_seen_before_the_cut_and_no_others(
    trained: Trained,
) -> None:
    events = trained.dataset.events().filter(pl.col("product_id") != "")
    seen = events.filter(pl.col("event_time") < trained.run.info.cut_time).collect()
    words = trained.run.tokenizer.products.words
    assert set(words) == set(seen["product_id"])
    # The most seen product comes first.
    counts = seen["product_id"].value_counts().sort("count", descending=True)
    assert counts.filter(pl.col("product_id") == words[0])["count"][0] == counts["count"][0]


def test_product_rows_carry_codes_of_their_texts(trained: Trained) -> None:
    """Products of one shelf share leading codes far more often than any two products do."""
    tokenizer = trained.run.tokenizer
    products = [
        each
        for each in trained.dataset.products()
        if tokenizer.products.lookup(each.product_id) != UNKNOWN and each.title
    ]
    rows = [tokenizer.products.lookup(each.product_id) for each in products]
    codes = tokenizer.product_table[rows, 0]
    shelves = np.array([each.categories[0] if each.categories else "" for each in products])
    pairs = ~np.eye(len(products), dtype=bool)
    alike = codes[:, None] == codes[None, :]
    same_shelf = (shelves[:, None] == shelves[None, :]) & pairs
    assert alike[same_shelf].mean() > 3 * alike[pairs].mean()


@pytest.mark.usefixtures("few_resamples")
def test_an_evaluation_judges_held_out_visits_beside_its_baselines(
    trained: Trained, tmp_path: Path
) -> None:
    report = evaluate(trained.run, trained.dataset, silent)
    sessions = trained.dataset.sessions().collect()
    late = sessions.filter(pl.col("start_time") >= trained.run.info.cut_time)
    assert f"of {late['shopper_id'].n_unique()} shoppers" in report.protocol["samples"]
    whole = [row for row in report.rows if (row.prefix, row.slice) == ("all", "all")]
    models = {(row.horizon, row.model) for row in whole if row.metric == "pr_auc" and row.horizon}
    assert {("session", name) for name in ("shopintent", "constant", "logistic")} <= models
    assert {row.model for row in whole if row.metric == "next_action_log_loss"} == {
        "shopintent", "constant", "markov",
    }  # fmt: skip
    assert {row.model for row in whole if row.metric == "ndcg"} == {
        "shopintent", "popular", "popular-7d", "item-knn",
    }  # fmt: skip
    assert {row.slice for row in report.rows} >= {"cold-shoppers", "warm-shoppers"}
    assert {row.seed for row in whole if row.model == "shopintent"} == {CONFIG.seed}
    write_report(tmp_path, report)
    assert (tmp_path / "report.html").stat().st_size > 50_000


@pytest.mark.usefixtures("few_resamples")
def test_a_held_out_part_without_purchases_can_be_judged(trained: Trained, tmp_path: Path) -> None:
    events = trained.dataset.events().collect()
    late = pl.col("event_time") >= trained.run.info.cut_time
    none = events.filter(~(late & (pl.col("event_type") == "purchase"))).with_columns(
        pl.when(pl.col("next_purchase_time") < trained.run.info.cut_time)
        .then("next_purchase_time")
        .alias("next_purchase_time"),
        pl.when(late & (pl.col("next_action") == "purchase"))
        .then(pl.lit("leave"))
        .otherwise("next_action")
        .alias("next_action"),
    )
    dataset = changed(trained, tmp_path / "data", none)
    report = evaluate(trained.run, dataset, silent)
    judged = {row.metric for row in report.rows if row.horizon == "session"}
    assert {"log_loss", "brier", "ece"} <= judged
    assert not {"pr_auc", "roc_auc"} & judged
    write_report(tmp_path / "report", report)
    assert "0 of which buy" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.usefixtures("few_resamples")
def test_no_more_is_judged_than_the_limits_say(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "MAX_PREFIXES", 90)
    monkeypatch.setattr(evaluating, "MAX_RANKED", 20)
    report = evaluate(trained.run, trained.dataset, silent)
    assert "90 of " in report.protocol["samples"]
    assert 20 < max(row.samples or 0 for row in report.rows) <= 90
    assert report.protocol["ranking"]["requests"] == 20


def test_a_log_that_ends_at_the_cut_cannot_be_judged(trained: Trained, tmp_path: Path) -> None:
    events = trained.dataset.events().collect()
    early = events.filter(pl.col("event_time") < trained.run.info.cut_time)
    dataset = changed(trained, tmp_path / "data", early)
    with pytest.raises(EvaluationError, match="hold out more of the log"):
        evaluate(trained.run, dataset, silent)


@pytest.mark.usefixtures("exported_encoder")
def test_too_few_shoppers_are_refused(trained: Trained, tmp_path: Path) -> None:
    events = trained.dataset.events().collect()
    few = events["shopper_id"].unique().sort()[:10]
    dataset = changed(
        trained, tmp_path / "data", events.filter(pl.col("shopper_id").is_in(few.to_list()))
    )
    with pytest.raises(TrainingDataError, match="shoppers have events before the held-out time"):
        train(dataset, CONFIG, tmp_path / "run", silent)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.usefixtures("exported_encoder")
def test_a_log_whose_events_before_the_cut_happen_at_once_is_refused(
    trained: Trained, tmp_path: Path
) -> None:
    """Nothing is left to learn from before what tells when to stop."""
    events = trained.dataset.events().collect()
    early = pl.col("event_time") < trained.run.info.cut_time
    start = trained.dataset.info.observed_from
    at_once = events.with_columns(
        pl.when(early).then(pl.lit(start)).otherwise("event_time").alias("event_time")
    )
    dataset = changed(trained, tmp_path / "data", at_once)
    with pytest.raises(TrainingDataError, match="at one time"):
        train(dataset, CONFIG, tmp_path / "run", silent)


@pytest.mark.usefixtures("exported_encoder")
def test_sampled_softmax_trains_too(trained: Trained, tmp_path: Path) -> None:
    config = replace(CONFIG, full_softmax_up_to=20, n_negatives=16, max_products=60)
    run = train(trained.dataset, config, tmp_path / "run", silent)
    assert len(run.tokenizer.products.words) == 60
    assert np.isfinite(list(run.info.history[-1].values())).all()
