"""A prepared log in flat arrays: each event as the server would encode it, however it is read."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from shopintent.behavior import BehaviorTokenizer, Event
from shopintent.behavior.codebook import LEVELS
from shopintent.behavior.events import LEAVE
from shopintent.trainer.data import Dataset, SimulationConfig, load_mapping, prepare, simulate
from shopintent.trainer.data.progress import silent
from shopintent.trainer.fit import fit_tokenizer
from shopintent.trainer.log_sequences import load_sequences
from shopintent.trainer.sequences import NEVER, Sequences

SHOP = SimulationConfig(seed=5, n_shoppers=150, n_products=60, days=8, n_bots=0)
TEXT_SIZE = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("shop")
    simulate(folder / "log", SHOP)
    return prepare(folder / "log", load_mapping("simulated"), folder / "prepared")


@pytest.fixture(scope="module")
def given(dataset: Dataset) -> dict[str, Any]:
    """A tokenizer that knows half of the products, the content of all, codes of most queries."""
    products = list(dataset.products())
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(len(products), TEXT_SIZE)).astype(np.float32)
    tokenizer = fit_tokenizer(
        products[::2],
        embeddings[::2],
        event_types=dataset.info.event_types,
        code_size=4,
        max_events=8,
        seed=0,
    )
    queries = dataset.events().select(pl.col("search_query").unique().sort()).collect()
    searched = [query for query in queries["search_query"] if query]
    codes: dict[str, NDArray[np.int32]] = {
        query: rng.integers(1, 4, LEVELS).astype(np.int32) for query in searched
    }
    content = tokenizer.encode_content(products, embeddings)
    return {
        "tokenizer": tokenizer,
        "catalog_content": {
            each.product_id: row for each, row in zip(products, content, strict=True)
        },
        "query_codes": codes,
        "action_names": (*dataset.info.event_types, LEAVE),
        "on_progress": silent,
    }


@pytest.fixture(scope="module")
def sequences(dataset: Dataset, given: dict[str, Any]) -> Sequences:
    return load_sequences(dataset, **given)


def test_every_event_is_what_the_server_would_make_of_it(
    dataset: Dataset, given: dict[str, Any], sequences: Sequences
) -> None:
    tokenizer: BehaviorTokenizer = given["tokenizer"]
    names = ("event_type", "event_time", "product_id", "category", "search_query", "quantity")
    table = dataset.events().collect()
    assert set(table["event_type"]) >= {"search", "view-category", "purchase"}
    shoppers = table.group_by("shopper_id", maintain_order=True)
    for number, ((shopper,), rows) in enumerate(shoppers):
        behavior = tokenizer.encode(
            [Event(*row) for row in rows.select(names).iter_rows()],
            unseen_products=given["catalog_content"],
            query_codes=given["query_codes"],
        )
        assert sequences.shopper_ids[number] == shopper
        loaded = sequences.behavior(number, int(sequences.offsets[number + 1]))
        assert loaded.tokens.tolist() == behavior.tokens.tolist()
        assert loaded.event_times.tolist() == behavior.event_times.tolist()
    assert len(sequences) == dataset.info.n_shoppers


def test_labels_are_those_of_the_prepared_log(
    dataset: Dataset, given: dict[str, Any], sequences: Sequences
) -> None:
    table = dataset.events().collect()
    names = list(given["action_names"])
    assert [names[each] for each in sequences.actions] == table["event_type"].to_list()
    assert [names[each] for each in sequences.next_actions] == table["next_action"].to_list()
    assert sequences.purchases.tolist() == (table["event_type"] == "purchase").to_list()
    until = table["next_purchase_time"].fill_null(NEVER)
    assert sequences.next_purchase_times.tolist() == until.to_list()
    catalog = list(given["catalog_content"])
    products = [catalog[row] if row >= 0 else "" for row in sequences.catalog_rows]
    assert products == table["product_id"].to_list()
    after = table.select(
        (pl.col("session_id") != pl.col("session_id").shift(-1).over("shopper_id")).fill_null(False)
    )
    assert sequences.returns.tolist() == after["session_id"].to_list()


@pytest.mark.parametrize("rows_at_once", [1, 7, 1_000])
def test_stretches_of_any_length_make_the_same_sequences(
    dataset: Dataset, given: dict[str, Any], sequences: Sequences, rows_at_once: int
) -> None:
    first = 60 if rows_at_once == 1 else None
    expected = load_sequences(dataset, **given, first_rows=first)
    again = load_sequences(dataset, **given, first_rows=first, rows_at_once=rows_at_once)
    for each in fields(Sequences):
        assert np.array_equal(getattr(again, each.name), getattr(expected, each.name)), each.name


def test_only_the_first_events_are_read_when_no_more_are_needed(
    dataset: Dataset, given: dict[str, Any], sequences: Sequences
) -> None:
    some = load_sequences(dataset, **given, first_rows=25)
    assert some.tokens.tolist() == sequences.tokens[:25].tolist()
    assert int(some.offsets[-1]) == 25
    assert some.shopper_ids == sequences.shopper_ids[: len(some)]
