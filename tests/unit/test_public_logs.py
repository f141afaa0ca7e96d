"""Logs in the shapes of well-known public ones are prepared by a mapping alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from shopintent.trainer.data import Dataset, prepare
from shopintent.trainer.data.draft import draft_mapping
from shopintent.trainer.data.mapping_file import parse_mapping
from shopintent.trainer.data.samples import log_files, take_sample
from support.public_logs import BUY, N_PRODUCTS, SHAPES, Act, acts

DONE = acts(60)
COARSE = ("tmall", "diginetica", "hm", "dunnhumby", "instacart", "order-only")
"""Shapes that do not tell the time of day of an event."""
DRAFTED = ("otto", "otto-parquet", "retailrocket", "diginetica", "hm", "tabs", "warehouse")
"""Shapes whose drafted mapping needs no correction."""


def written(folder: Path, name: str) -> Path:
    log = folder / "log"
    log.mkdir()
    SHAPES[name].write(log, DONE)
    return log


def prepared(folder: Path, name: str) -> Dataset:
    mapping = parse_mapping(SHAPES[name].mapping, f"{name}.toml")
    return prepare(written(folder, name), mapping, folder / "out")


def kept(name: str) -> list[Act]:
    return [act for act in DONE if SHAPES[name].kept(act)]


@pytest.mark.parametrize("name", SHAPES)
def test_a_public_log_keeps_every_event_with_its_product_and_its_time(
    tmp_path: Path, name: str
) -> None:
    dataset = prepared(tmp_path, name)
    assert dataset.info.event_types == SHAPES[name].event_types
    events = dataset.events().collect()
    products = Counter(int(each.removeprefix("P")) for each in events["product_id"])
    assert products == Counter(act.product for act in kept(name))
    purchases = sum(act.kind == BUY for act in kept(name))
    if "view-product" in dataset.info.event_types and purchases and name != "order-only":
        assert (events["event_type"] == "purchase").sum() == purchases
    if name in COARSE:
        return
    # A spreadsheet tells minutes, in the time of its zone.
    tolerance_s = 3_660 if name == "spreadsheet" else 0
    times = sorted(act.time for act in kept(name))
    apart = (events["event_time"].sort() - pl.Series(times)).abs()
    assert apart.max() <= tolerance_s  # type: ignore[operator]


@pytest.mark.parametrize("name", ["otto", "otto-parquet", "yoochoose", "diginetica", "instacart"])
def test_sessions_are_those_of_the_log(tmp_path: Path, name: str) -> None:
    dataset = prepared(tmp_path, name)
    assert dataset.info.n_sessions == len({act.session for act in kept(name)})


@pytest.mark.parametrize("name", COARSE)
def test_events_of_one_time_keep_the_order_in_which_they_happened(
    tmp_path: Path, name: str
) -> None:
    """Within a visit shoppers walk along a shelf, so the next product is the one beside."""
    events = prepared(tmp_path, name).events().collect()
    product = pl.col("product_id").cast(pl.Int64)
    follows = events.select(
        (product.shift(-1).over("session_id") - product) % 10,
    ).drop_nulls()["product_id"]
    if len(follows) and name not in ("hm", "tmall"):
        assert follows.is_in([0, 1]).all()
    dataset = Dataset.open(tmp_path / "out")
    assert any("only an order" in w or "not the minute" in w for w in dataset.report()["warnings"])


def test_properties_in_long_form_are_the_latest_and_joined_with_their_tree(
    tmp_path: Path,
) -> None:
    products = list(prepared(tmp_path, "retailrocket").products())
    assert len(products) == N_PRODUCTS
    by_id = {each.product_id: each for each in products}
    assert by_id["37"].categories == ("101 > 3",)
    assert float(by_id["37"].price or 0) == 38.0
    assert (by_id["37"].in_stock, by_id["40"].in_stock) == (True, False)


def test_a_catalog_is_joined_with_the_files_that_name_its_numbers(tmp_path: Path) -> None:
    products = {each.product_id: each for each in prepared(tmp_path, "instacart").products()}
    assert products["37"].title == "Fresh Fruit, kind 37"
    assert products["37"].categories == ("snacks > aisle 3",)


def test_a_visit_without_a_shopper_is_a_shopper_of_its_own(tmp_path: Path) -> None:
    shoppers = set(prepared(tmp_path, "diginetica").events().collect()["shopper_id"])
    known = {f"{act.shopper}" for act in kept("diginetica") if act.shopper % 3 == 0}
    alone = {f"sessionId:{act.session}" for act in kept("diginetica") if act.shopper % 3}
    assert shoppers == known | alone


def test_prices_and_titles_survive_a_spreadsheet_and_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    cup = next(prepared(tmp_path / "a", "spreadsheet").products())
    assert (float(cup.price or 0), cup.currency, cup.title) == (1234.5, "EUR", "Tasse; blau")
    film = next(prepared(tmp_path / "b", "movielens").products())
    assert (film.title, film.categories) == ("Amélie 0 (1995)", ("Animation > Children's",))


def test_the_last_event_of_everybody_is_last_when_only_an_order_is_known(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, "instacart")
    last = dataset.events().group_by("shopper_id").agg(pl.col("event_time").max()).collect()
    assert set(last["event_time"]) == {dataset.info.observed_until}


@pytest.mark.parametrize("name", DRAFTED)
def test_the_draft_of_a_mapping_prepares_what_the_right_one_does(tmp_path: Path, name: str) -> None:
    log = written(tmp_path, name)
    draft = draft_mapping([take_sample(path) for path in log_files(log)], name)
    drafted = prepare(log, parse_mapping(draft, "draft.toml"), tmp_path / "drafted").info
    right = prepare(log, parse_mapping(SHAPES[name].mapping, "right.toml"), tmp_path / "right").info
    assert drafted.n_events == right.n_events
    assert drafted.n_shoppers == right.n_shoppers
    assert drafted.event_types == right.event_types


@pytest.mark.parametrize("name", sorted(set(SHAPES) - set(DRAFTED)))
def test_a_draft_that_needs_correcting_is_at_least_a_mapping(tmp_path: Path, name: str) -> None:
    log = written(tmp_path, name)
    draft = draft_mapping([take_sample(path) for path in log_files(log)], name)
    assert parse_mapping(draft, "draft.toml").sources


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("otto", "events.ts", "ts", r'unreadable time.*Column "ts" holds None'),
        ("otto", '"ms"', '"s"', r"train.jsonl: .* drop as time out of range.*holds .16145"),
        ("otto-parquet", "events.ts", "events.when", r'has no column "when" in "events".*ts'),
        ("otto-parquet", 'explode = "events"', 'explode = "clicks"', r'no column "clicks"'),
        ("tmall", '"user_id"', '"user"', r'user_log.*no column "user".*Did you mean "user_id"'),
        ("instacart", 'file = "orders.csv"', 'file = "order.csv"', r"order\.csv: there is no such"),
        ("instacart", '"order_number"]', '"number"]', r'orders\.csv: has no column "number"'),
        ("retailrocket", "item_properties_part*", "items*", r"items\*\.csv: there is no such file"),
    ],
)
def test_a_mistake_in_a_mapping_is_answered_with_file_column_and_values(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    assert old in SHAPES[name].mapping
    mapping = parse_mapping(SHAPES[name].mapping.replace(old, new), f"{name}.toml")
    with pytest.raises(ValueError, match=message):
        prepare(written(tmp_path, name), mapping, tmp_path / "out")


def test_an_archive_is_not_read_but_its_remedy_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.zip").write_bytes(b"PK")
    mapping = parse_mapping(SHAPES["tabs"].mapping.replace("log.tsv.bz2", "*.zip"), "zip.toml")
    with pytest.raises(ValueError, match=r"log\.zip: the suffix tells no format .* unpack it"):
        prepare(tmp_path, mapping, tmp_path / "out")
