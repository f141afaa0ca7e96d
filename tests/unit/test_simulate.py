"""The simulated shop: the same seed gives the same bytes, and what is in them is believable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopintent.behavior import EVENT_TYPES
from shopintent.trainer.data import Dataset, SimulationConfig, load_mapping, prepare, simulate
from shopintent.trainer.data.simulate import SimulationError, simulate_shop

SMALL = SimulationConfig(n_shoppers=250, n_products=300, days=14)
FILES = ("catalog.csv", "events-app.jsonl", "events-web.csv", "mapping.toml")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shop") / "export"
    simulate(out, SMALL)
    return out


@pytest.fixture(scope="module")
def dataset(export: Path) -> Dataset:
    return prepare(export, load_mapping(export / "mapping.toml"), export.parent / "prepared")


def test_the_same_seed_gives_the_same_bytes(export: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again", SMALL)
    for file in FILES:
        assert (tmp_path / "again" / file).read_bytes() == (export / file).read_bytes()


def test_another_seed_gives_another_shop(export: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "other", replace(SMALL, seed=8))
    for file in FILES[:3]:
        assert (tmp_path / "other" / file).read_bytes() != (export / file).read_bytes()


def test_the_export_is_prepared_with_the_mapping_beside_it_or_the_shipped_one(
    export: Path, tmp_path: Path, dataset: Dataset
) -> None:
    shipped = prepare(export, load_mapping("simulated"), tmp_path / "prepared")
    assert shipped.info == dataset.info


def test_every_kind_of_dirt_is_found_and_counted(dataset: Dataset) -> None:
    report = dataset.report()
    assert report["rows_in"] == report["rows_out"] + sum(report["dropped"].values())
    assert all(n > 0 for n in report["dropped"].values()), report["dropped"]
    assert report["dropped"]["bot"] > 2000
    warnings = "\n".join(report["warnings"])
    assert "3 shoppers were taken for bots" in warnings
    assert "invalid UTF-8" in warnings
    assert "no price" in warnings


def test_what_was_cleaned_is_what_happened(dataset: Dataset) -> None:
    shop = simulate_shop(SMALL)
    happened = {
        (event.shopper, event.time, event.event_type)
        for event in shop.events
        if event.shopper.startswith("u")
    }
    kept = set(dataset.events().select("shopper_id", "event_time", "event_type").collect().rows())
    # Some dirty rows are sound but for a price or a byte, and stay.
    assert happened <= kept
    assert len(kept - happened) < 0.01 * len(kept)


def test_all_event_types_and_both_sources_occur(dataset: Dataset, export: Path) -> None:
    assert dataset.info.event_types == EVENT_TYPES
    lines = (export / "events-app.jsonl").read_bytes().splitlines()
    assert json.loads(lines[0])["user"]["id"].startswith("u")
    rows = [file["rows_usable"] for file in dataset.report()["files"]]
    assert min(rows) > 1000


def test_visits_are_as_long_and_buy_as_often_as_in_a_shop(dataset: Dataset) -> None:
    sessions = dataset.sessions().collect()
    assert 4.5 < sessions["n_events"].cast(pl.Float64).mean() < 8  # type: ignore[operator]
    assert 0.03 < (sessions["outcome"] == "purchase").mean() < 0.09  # type: ignore[operator]


def test_products_are_described_and_some_are_new_in_the_last_days(dataset: Dataset) -> None:
    products = dataset.product_table().collect()
    assert len(products) == SMALL.n_products
    assert (products["title"] != "").all()
    assert products["categories"].list.len().eq(1).all()
    last_days = dataset.info.observed_until - 4 * 86_400
    assert (products["first_seen_time"] > last_days).sum() >= 3


def test_someone_with_a_purchase_in_mind_behaves_otherwise(dataset: Dataset) -> None:
    shop = simulate_shop(SMALL)
    intents = pl.DataFrame(
        {
            "shopper_id": [event.shopper for event in shop.events],
            "event_time": [event.time for event in shop.events],
            "intent": [event.intent for event in shop.events],
        }
    ).unique(["shopper_id", "event_time"])
    events = dataset.events().collect().join(intents, on=["shopper_id", "event_time"])
    bought = events.group_by("intent").agg((pl.col("event_type") == "purchase").mean().alias("p"))
    rate = dict(bought.rows())
    assert rate["hunt"] > 5 * rate["browse"]
    assert rate["hunt"] > 2 * rate["compare"]


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(SimulationError, match="holds other things"):
        simulate(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_an_impossible_shop_is_refused() -> None:
    with pytest.raises(SimulationError, match="n_products must be at least 57"):
        SimulationConfig(n_products=3)


def test_progress_moves(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    simulate(tmp_path / "shop", SMALL, lambda *step: seen.append(step))
    assert seen[-1] == ("simulate shoppers", 250, 250)
    assert len(seen) == 3


def test_a_second_season_goes_on_with_the_same_shop(dataset: Dataset) -> None:
    """Products and shoppers of the first season stay who they are; new ones come."""
    first, second = (simulate_shop(replace(SMALL, season=season)) for season in (1, 2))
    n_known = len(first.catalog)
    assert second.catalog.titles[:n_known] == first.catalog.titles
    assert second.catalog.ids[:n_known] == first.catalog.ids
    assert len(set(second.catalog.ids)) == len(second.catalog) > 1.15 * n_known
    new_shelves = {shelf.path for shelf in second.catalog.shelves[len(first.catalog.shelves) :]}
    assert "Sports > Winter > Skis" in new_shelves
    assert min(event.time for event in second.events) > max(event.time for event in first.events)
    before, after = ({event.shopper for event in shop.events} for shop in (first, second))
    assert len(before & after) > 0.8 * len(before)
    assert after - before


def test_the_tastes_of_a_season_are_others() -> None:
    """New products take a good share of the views, and the shelves that drew before draw less."""
    first, second = (simulate_shop(replace(SMALL, season=season)) for season in (1, 2))
    seen = [event.product for event in second.events if event.product >= 0]
    new = sum(product >= len(first.catalog) for product in seen) / len(seen)
    assert 0.15 < new < 0.6
    shares = []
    for shop in (first, second):
        shelves = [shop.catalog.shelf[event.product] for event in shop.events if event.product >= 0]
        counts = np.bincount(shelves, minlength=len(second.catalog.shelves))
        shares.append(counts / counts.sum())
    assert 0.1 < np.abs(shares[0] - shares[1]).sum() / 2 < 0.6


def test_a_season_before_the_first_is_refused() -> None:
    with pytest.raises(SimulationError, match="season must be at least 1"):
        SimulationConfig(season=0)
