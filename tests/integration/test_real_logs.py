"""The shipped mappings prepare real logs; their counts are known."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from shopintent.trainer.data import Dataset, load_mapping, prepare
from shopintent.trainer.data.mapping_file import parse_mapping

DATA = Path(
    os.environ.get("SHOPINTENT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


def real_log(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set SHOPINTENT_DATA to the folder of the real logs")
    return folder


@pytest.fixture(scope="module")
def taobao(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    log = real_log("taobao-userbehavior-sample")
    return prepare(log, load_mapping("taobao"), tmp_path_factory.mktemp("taobao") / "out")


@pytest.fixture(scope="module")
def rees46(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    log = real_log("rees46-multi-category-sample")
    return prepare(log, load_mapping("rees46"), tmp_path_factory.mktemp("rees46") / "out")


def test_taobao_keeps_all_but_the_rows_outside_its_nine_days(taobao: Dataset) -> None:
    report = taobao.report()
    assert (report["rows_in"], report["rows_out"]) == (84_475, 84_440)
    assert {reason: n for reason, n in report["dropped"].items() if n} == {"time out of range": 35}
    assert report["event_types"] == {
        "view-product": 75_837,
        "favorite": 2_356,
        "add-to-cart": 4_497,
        "purchase": 1_750,
    }
    assert (taobao.info.n_shoppers, taobao.info.n_products) == (815, 55_344)


def test_taobao_visits_and_labels_have_the_known_rates(taobao: Dataset) -> None:
    sessions = taobao.sessions().collect()
    assert len(sessions) == taobao.info.n_sessions == 14_097
    assert (sessions["outcome"] == "purchase").sum() == 1_345
    events = taobao.events().collect()
    until_purchase = events["next_purchase_time"] - events["event_time"]
    assert until_purchase.min() >= 0  # type: ignore[operator]
    buyers = events.filter(pl.col("event_type") == "purchase")["shopper_id"].n_unique()
    assert buyers / taobao.info.n_shoppers == pytest.approx(0.686, abs=0.001)


def test_rees46_keeps_all_but_repeated_rows(rees46: Dataset) -> None:
    report = rees46.report()
    assert (report["rows_in"], report["rows_out"]) == (17_434, 17_428)
    assert {reason: n for reason, n in report["dropped"].items() if n} == {"duplicate": 6}
    assert report["event_types"]["purchase"] == 214
    assert any("19 prices that are no price" in warning for warning in report["warnings"])


def test_rees46_sessions_are_those_of_the_log_cut_where_they_interleave(rees46: Dataset) -> None:
    # 5,066 session ids, one shared by two shoppers, two resumed after another one.
    assert rees46.info.n_sessions == 5_069
    bought = (rees46.sessions().collect()["outcome"] == "purchase").mean()
    assert bought == pytest.approx(0.039, abs=0.001)


def test_rees46_products_have_price_brand_and_category_path(rees46: Dataset) -> None:
    products = rees46.product_table().collect()
    assert len(products) == 6_493
    assert set(products["currency"]) <= {"USD", ""}
    paths = products["categories"].list.first()
    assert "electronics > smartphone" in paths
    assert paths.null_count() == 0


def test_invoices_become_purchases_and_returns_are_dropped(tmp_path: Path) -> None:
    log = real_log("uci-online-retail")
    mapping = parse_mapping(
        """
name = "uci"
format_version = 1
[[sources]]
files = "online_retail_ii_2009_2010.parquet"
event_type = "purchase"
[columns]
shopper_id = "Customer ID"
event_time = "InvoiceDate"
product_id = "StockCode"
quantity = "Quantity"
[product]
title = "Description"
price = "Price"
currency = "GBP"
""",
        "uci.toml",
    )
    dataset = prepare(log, mapping, tmp_path / "out")
    report = dataset.report()
    assert report["rows_in"] == 525_461
    assert report["dropped"]["bot"] == 0
    assert report["dropped"]["missing shopper"] == 107_927
    assert report["dropped"]["invalid quantity"] > 9_000
    assert "13085" in set(dataset.events().select("shopper_id").unique().collect()["shopper_id"])
    assert dataset.info.currency == "GBP"
