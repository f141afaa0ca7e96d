"""Old and new events as one dataset: nothing twice, nothing lost, products as they are today."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopintent.behavior import Product
from shopintent.trainer.data.prepared import (
    EVENT_SCHEMA,
    EVENTS_FILE,
    PRODUCTS_FILE,
    SESSION_SCHEMA,
    SESSIONS_FILE,
    Dataset,
    DatasetInfo,
)
from shopintent.trainer.data.products import PRODUCT_SCHEMA, known_products
from shopintent.trainer.run import Run
from shopintent.trainer.update.config import UpdateError
from shopintent.trainer.update.merge import latest, merge
from shopintent.trainer.update.serving import Serving
from support.learning import GAP_S, make_run

Row = tuple[str, int, str, int, str]
"""Shopper, session, event type, time, product."""
INFO = DatasetInfo(
    format_version=1, mapping="test", event_types=("view-product", "purchase"), observed_from=0,
    observed_until=0, session_rule="gap", session_gap_s=GAP_S, currency="EUR", n_events=0,
    n_sessions=0, n_shoppers=0, n_products=0,
)  # fmt: skip


def dataset(folder: Path, rows: list[Row], products: list[Product], **info: Any) -> Dataset:
    folder.mkdir()
    events = pl.DataFrame(
        [
            {
                "shopper_id": shopper, "session_id": session, "event_type": kind,
                "event_time": time, "product_id": product, "category": "", "search_query": "",
                "quantity": int(kind == "purchase"), "next_action": "leave",
                "next_purchase_time": None,
            }
            for shopper, session, kind, time, product in sorted(rows, key=lambda r: (r[0], r[3]))
        ],
        schema=EVENT_SCHEMA,
    )  # fmt: skip
    events.write_parquet(folder / EVENTS_FILE)
    pl.DataFrame(schema=SESSION_SCHEMA).write_parquet(folder / SESSIONS_FILE)
    known_products(products).write_parquet(folder / PRODUCTS_FILE)
    until = max(row[3] for row in rows)
    replace(INFO, observed_until=until, **info).save(folder)
    return Dataset.open(folder)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def serving(run: Run, *products: Product) -> Serving:
    return Serving("r1", run, list(products))


def test_events_come_from_the_old_dataset_up_to_its_end_and_from_the_new_one_behind_it(
    run: Run, tmp_path: Path
) -> None:
    old = dataset(
        tmp_path / "old", [("u1", 0, "view-product", 100, "a"), ("u2", 1, "purchase", 200, "b")], []
    )
    new = dataset(
        tmp_path / "new",
        [
            ("u1", 0, "view-product", 200, "a"),  # told by the old one
            ("u1", 0, "view-product", 300, "a"),
            ("u1", 0, "purchase", 310, "a"),
            ("u3", 1, "view-product", 400, "c"),
        ],
        [],
    )
    merged = merge(serving(run), old, new, tmp_path / "merged").dataset
    events = merged.events().collect()
    assert events.select("shopper_id", "event_time").rows() == [
        ("u1", 100), ("u1", 300), ("u1", 310), ("u2", 200), ("u3", 400),
    ]  # fmt: skip
    assert events["session_id"].to_list() == [0, 2, 2, 1, 3]
    assert events["next_action"].to_list() == ["leave", "purchase", "leave", "leave", "leave"]
    assert events["next_purchase_time"].to_list() == [310, 310, None, None, None]
    assert merged.info.observed_until == 400
    assert (merged.info.n_events, merged.info.n_shoppers) == (5, 3)
    outcomes = dict(merged.sessions().select("session_id", "outcome").collect().rows())
    assert outcomes == {0: "browse", 1: "purchase", 2: "purchase", 3: "browse"}


def test_events_that_the_release_never_learned_are_left_out_and_counted(
    run: Run, tmp_path: Path
) -> None:
    new = dataset(
        tmp_path / "new",
        [
            ("u1", 0, "view-product", 100, "a"),
            ("u1", 0, "favorite", 110, "a"),
            ("u1", 0, "purchase", 120, "a"),
        ],
        [],
    )
    merged = merge(serving(run), None, new, tmp_path / "merged")
    assert merged.unknown_types == {"favorite": 1}
    events = merged.dataset.events().collect()
    assert events["next_action"].to_list() == ["purchase", "leave"]


def test_a_product_is_what_the_newest_table_that_knows_says_of_it() -> None:
    release = [
        Product("a", title="old title", brand="Velox", categories=("Shoes",)),
        Product("b", title="only here", in_stock=False),
    ]
    later = [
        Product("a", title="new title", description="now told", in_stock=False),
        Product("b"),  # seen in events, described by nobody
        Product("c", title="new"),
    ]
    table = latest([known_products(release), known_products(later)])
    assert table.schema == pl.Schema(PRODUCT_SCHEMA)
    rows = {row["product_id"]: row for row in table.iter_rows(named=True)}
    assert rows["a"]["title"] == "new title"
    assert (rows["a"]["brand"], rows["a"]["categories"]) == ("Velox", ["Shoes"])
    assert not rows["a"]["in_stock"]
    assert (rows["b"]["title"], rows["b"]["in_stock"]) == ("only here", False)
    assert rows["c"]["categories"] == []
    assert list(rows) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"session_gap_s": 60}, "visits end after 60 idle seconds"),
        ({"currency": "USD"}, "prices are in EUR and USD"),
    ],
)
def test_a_dataset_that_means_something_else_is_refused(
    run: Run, tmp_path: Path, info: dict[str, Any], said: str
) -> None:
    new = dataset(tmp_path / "new", [("u1", 0, "view-product", 100, "a")], [], **info)
    sold = Product("a", title="shoe", currency="EUR")
    with pytest.raises(UpdateError, match=said):
        merge(serving(run, sold), None, new, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
