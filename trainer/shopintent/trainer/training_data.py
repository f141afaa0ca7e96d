"""The prepared dataset as the network sees it: tokens, labels, product content, and the splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopintent.behavior import BehaviorTokenizer, Product, product_text
from shopintent.behavior.events import LEAVE
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.log_sequences import load_sequences
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import TimeSplit
from shopintent.trainer.text import TextEncoder

HORIZONS_S = (3_600, 86_400, 604_800)
"""An hour, a day, a week: those that fit into the log are predicted."""
POPULAR_S = 604_800
"""Popular means popular in the newest week."""
MIN_SHOPPERS = 20


class TrainingDataError(ValueError):
    """A dataset is not enough to train on; the message says what is missing."""


def cut_time(
    dataset: Dataset,
    *,
    holdout_share: float,
    holdout_days: float | None = None,
    holdout_from: int | None = None,
) -> int:
    """Returns the time from which on events are held out.

    That is the newest share of the events, or more where they take less than two of the pauses
    that end a visit: else no visit could be judged. As much must be left, or none could be learned.
    """
    info = dataset.info
    judged_s = 2 * info.session_gap_s
    if holdout_from is not None:
        cut = holdout_from
    elif holdout_days is None:
        cut = newest_share_from(dataset, holdout_share, before=info.observed_until)
        cut = min(cut, info.observed_until - judged_s)
    else:
        cut = int(info.observed_until - holdout_days * 86_400)
    if not info.observed_from + judged_s <= cut < info.observed_until:
        hours = (info.observed_until - info.observed_from) / 3_600
        raise TrainingDataError(
            f"the log spans {hours:.1f} hours: too little to learn from one part and judge on "
            "another; give more of the log, or another --holdout-days or --holdout-from"
        )
    return cut


def newest_share_from(dataset: Dataset, share: float, *, before: int) -> int:
    """Returns the time from which on the newest share of the events before a time happened."""
    times = dataset.events().filter(pl.col("event_time") < before).select("event_time")
    return int(times.quantile(1 - share, "higher").collect().item() or 0)


def horizons(dataset: Dataset) -> tuple[int, ...]:
    """Returns the horizons that the log is long enough to judge: a quarter of its span, at least
    one.
    """
    span = dataset.info.observed_until - dataset.info.observed_from
    return tuple(h for h in HORIZONS_S if h <= span / 4) or HORIZONS_S[:1]


def actions(dataset: Dataset) -> tuple[str, ...]:
    """Returns what can come next in this log: its event types, and leaving."""
    return (*dataset.info.event_types, LEAVE)


def time_split(dataset: Dataset, config: TrainConfig) -> TimeSplit:
    """Returns the split by time that the config asks for."""
    cut = cut_time(
        dataset,
        holdout_share=config.holdout_share,
        holdout_days=config.holdout_days,
        holdout_from=config.holdout_from,
    )
    return TimeSplit(newest_share_from(dataset, config.validation_share, before=cut), cut)


def check_enough(*, known: int) -> None:
    """Raises TrainingDataError when hardly any shoppers did anything that may be known."""
    if known < MIN_SHOPPERS:
        raise TrainingDataError(
            f"only {known} shoppers have events before the held-out time; {MIN_SHOPPERS} are needed"
        )


@dataclass(frozen=True)
class Catalog:
    """Every product of the dataset, most popular before the cut first."""

    products: list[Product]
    popularity: NDArray[np.float64]
    """[P], events in the week before the cut."""
    n_events: NDArray[np.int64]
    """[P], all events before the cut; 0 for products that training never saw."""

    def most_seen(self, limit: int) -> NDArray[np.int64]:
        """Returns the rows of the products seen before the cut, most seen first."""
        order = np.argsort(-self.n_events, kind="stable")[:limit]
        return order[self.n_events[order] > 0]


@dataclass(frozen=True, eq=False)
class Inputs:
    """A dataset through the eyes of one tokenizer and text encoder."""

    sequences: Sequences
    product_ids: tuple[str, ...]
    """[P], the catalog's products, as in the next two."""
    text_embeddings: NDArray[np.float32]
    """[P, E]"""
    content: NDArray[np.int32]
    """[P, 6]"""


def load_inputs(
    dataset: Dataset,
    tokenizer: BehaviorTokenizer,
    encoder: TextEncoder,
    catalog: Catalog,
    action_names: Sequence[str],
    on_progress: Progress,
    first_rows: int | None = None,
) -> Inputs:
    """Encodes the catalog, the searches and every shopper's events, or only the first events."""
    queries = search_queries(dataset)
    query_embeddings = encoder.encode(queries, on_progress)
    embeddings = encoder.encode(map(product_text, catalog.products), on_progress)
    content = tokenizer.encode_content(catalog.products, embeddings)
    sequences = load_sequences(
        dataset,
        tokenizer,
        action_names=action_names,
        catalog_content={
            each.product_id: row for each, row in zip(catalog.products, content, strict=True)
        },
        query_codes=dict(zip(queries, tokenizer.codebook.encode(query_embeddings), strict=True)),
        on_progress=on_progress,
        first_rows=first_rows,
    )
    ids = tuple(each.product_id for each in catalog.products)
    return Inputs(sequences, ids, embeddings, content)


def load_catalog(dataset: Dataset, learned: pl.Expr) -> Catalog:
    """Reads the products with their popularity in the events that may be known, see Split."""
    known = dataset.events().filter(learned).filter(pl.col("product_id") != "")
    recent = pl.col("event_time") > pl.col("event_time").max() - POPULAR_S
    counts = (
        known.with_columns(recent=recent)
        .group_by("product_id")
        .agg(pl.col("recent").sum(), seen=pl.len())
    )
    table = (
        dataset.product_table()
        .select("product_id")
        .join(counts, on="product_id", how="left", maintain_order="left")
        .select(pl.col("recent", "seen").fill_null(0).cast(pl.Int64))
        .collect()
    )
    recent_counts, seen_counts = table["recent"].to_numpy(), table["seen"].to_numpy()
    order = np.lexsort((-seen_counts, -recent_counts))
    products = list(dataset.products())
    return Catalog(
        [products[row] for row in order], recent_counts[order].astype(float), seen_counts[order]
    )


def search_queries(dataset: Dataset) -> list[str]:
    """Returns every different search query of the log."""
    queries = dataset.events().select("search_query").filter(pl.col("search_query") != "")
    return queries.unique().collect()["search_query"].sort().to_list()
