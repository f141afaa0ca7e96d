"""The events of a prepared log as flat arrays of tokens and labels, a stretch of rows at a time.

Texts become numbers in columns, so that tens of millions of events are encoded in minutes, and only
the numbers stay in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopintent.behavior import BehaviorTokenizer
from shopintent.behavior.events import PURCHASE
from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.behavior.word_tokens import EventColumns, WordTokens
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.sequences import NEVER, Sequences

ROWS_AT_ONCE = 1_000_000


def load_sequences(
    dataset: Dataset,
    tokenizer: BehaviorTokenizer,
    *,
    action_names: Sequence[str],
    catalog_content: dict[str, NDArray[np.int32]],
    query_codes: dict[str, NDArray[np.int32]],
    on_progress: Progress,
    first_rows: int | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Sequences:
    """Encodes every shopper's events with the tokenizer, as the server would.

    With `first_rows` only so many events of the first shoppers are read.
    """
    words = Words.of(dataset, list(catalog_content), list(query_codes), list(action_names))
    tokens = words.encoded(tokenizer, catalog_content, query_codes)
    n_rows = int(dataset.events().select(pl.len()).collect().item())
    n_rows = n_rows if first_rows is None else min(n_rows, first_rows)
    sequences = _empty(n_rows)
    shopper_ids: list[str] = []
    starts: list[NDArray[np.int64]] = []
    start = 0
    for table in _stretches(dataset, n_rows, rows_at_once):
        end = start + len(table)
        _fill(sequences, slice(start, end), table, words, tokens)
        shoppers = table["shopper_id"]
        first = np.flatnonzero((shoppers != shoppers.shift(1)).fill_null(True).to_numpy())
        if shopper_ids and shoppers[0] == shopper_ids[-1]:
            first = first[1:]
        shopper_ids += shoppers.gather(first).to_list()
        starts.append(start + first)
        start = end
        on_progress("encoding events", end, n_rows)
    offsets = np.concatenate([*starts, [start]]).astype(np.int64)
    sequences.returns[:-1] = sequences.session_ids[1:] != sequences.session_ids[:-1]
    sequences.returns[offsets[1:] - 1] = False
    return replace(sequences, shopper_ids=tuple(shopper_ids), offsets=offsets)


@dataclass(frozen=True, eq=False)
class Words:
    """The different words of a log, in the order of their positions."""

    products: pl.Enum
    """The catalog, and the empty id behind it."""
    categories: pl.Enum
    queries: pl.Enum
    actions: pl.Enum
    """Event types and leaving."""

    @classmethod
    def of(
        cls, dataset: Dataset, product_ids: list[str], queries: list[str], actions: list[str]
    ) -> Words:
        """Returns the words of a dataset whose catalog, queries and actions are known."""
        categories = dataset.events().select(pl.col("category").unique()).collect()["category"]
        return cls(
            pl.Enum([*product_ids, ""]),
            pl.Enum([*categories.filter(categories != "").sort(), ""]),
            pl.Enum([*queries, ""]),
            pl.Enum(actions),
        )

    @property
    def purchase(self) -> int:
        """The position of a purchase among the actions, -1 where nobody bought."""
        names = self.actions.categories.to_list()
        return names.index(PURCHASE) if PURCHASE in names else -1

    def encoded(
        self,
        tokenizer: BehaviorTokenizer,
        catalog_content: dict[str, NDArray[np.int32]],
        query_codes: dict[str, NDArray[np.int32]],
    ) -> WordTokens:
        """Returns what the tokenizer makes of every word."""
        return tokenizer.encode_words(
            self.actions.categories.to_list(),
            self.products.categories.to_list(),
            self.categories.categories.to_list(),
            self.queries.categories.to_list(),
            unseen_products=catalog_content,
            query_codes=query_codes,
        )


def _stretches(dataset: Dataset, n_rows: int, rows_at_once: int) -> Iterator[pl.DataFrame]:
    """Yields the first rows of the events in order."""
    for start in range(0, n_rows, rows_at_once):
        yield dataset.events().slice(start, min(rows_at_once, n_rows - start)).collect()


def _empty(n_rows: int) -> Sequences:
    """Returns arrays to be filled, so that there is never a second copy of them."""
    return Sequences(
        shopper_ids=(),
        offsets=np.zeros(1, np.int64),
        tokens=np.empty((n_rows, len(EVENT_FIELDS)), np.int32),
        event_times=np.empty(n_rows, np.int64),
        session_ids=np.empty(n_rows, np.int64),
        catalog_rows=np.empty(n_rows, np.int64),
        actions=np.empty(n_rows, np.int64),
        purchases=np.empty(n_rows, bool),
        next_actions=np.empty(n_rows, np.int64),
        next_purchase_times=np.empty(n_rows, np.int64),
        returns=np.empty(n_rows, bool),
    )


def _fill(
    sequences: Sequences, rows: slice, table: pl.DataFrame, words: Words, tokens: WordTokens
) -> None:
    """Writes a stretch of events into its rows, all but `returns`."""

    def positions(column: str, kind: pl.Enum) -> NDArray[np.int64]:
        return table[column].cast(kind).to_physical().cast(pl.Int64).to_numpy()

    products = positions("product_id", words.products)
    actions = positions("event_type", words.actions)
    columns = EventColumns(
        event_types=actions,
        product_ids=products,
        categories=positions("category", words.categories),
        search_queries=positions("search_query", words.queries),
        quantities=table["quantity"].to_numpy(),
    )
    no_product = len(words.products.categories) - 1
    sequences.tokens[rows] = tokens.tokens(columns)
    sequences.event_times[rows] = table["event_time"].to_numpy()
    sequences.session_ids[rows] = table["session_id"].to_numpy()
    sequences.catalog_rows[rows] = np.where(products == no_product, -1, products)
    sequences.actions[rows] = actions
    sequences.purchases[rows] = actions == words.purchase
    sequences.next_actions[rows] = positions("next_action", words.actions)
    next_purchases = table["next_purchase_time"].fill_null(NEVER)
    sequences.next_purchase_times[rows] = next_purchases.to_numpy()
