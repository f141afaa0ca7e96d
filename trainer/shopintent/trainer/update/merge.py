"""Old and new events as one dataset, whose products are those of the release and all that came.

It is a whole prepared dataset: `evaluate` and `publish` read it, and the next update may replay it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shopintent.behavior import EVENT_TYPES
from shopintent.trainer.data.labels import with_labels
from shopintent.trainer.data.prepared import (
    EVENT_SCHEMA,
    EVENTS_FILE,
    FORMAT_VERSION,
    PRODUCTS_FILE,
    SESSION_SCHEMA,
    SESSIONS_FILE,
    Dataset,
    DatasetInfo,
)
from shopintent.trainer.data.products import PRODUCT_SCHEMA, known_products
from shopintent.trainer.data.sessions import sessions_of
from shopintent.trainer.update.config import UpdateError
from shopintent.trainer.update.serving import Serving


@dataclass(frozen=True)
class Merged:
    """The dataset, and what was left out of it."""

    dataset: Dataset
    unknown_types: dict[str, int]
    """Events of types that the release never learned, by type."""


def merge(serving: Serving, replay: Dataset | None, new: Dataset, folder: Path) -> Merged:
    """Writes the dataset into the folder, in place of what is there.

    From the replayed dataset come the events up to its end, from the new one those behind it.
    Raises UpdateError where the datasets do not fit the release or each other.
    """
    check_alike(serving, replay, new)
    tables = [new.events().collect()]
    if replay is not None:
        tables = joined(replay.events().collect(), tables[0])
    known = serving.run.info.actions
    whole = pl.concat(tables)
    foreign = whole.filter(~pl.col("event_type").is_in(known))
    events = with_labels(
        whole.filter(pl.col("event_type").is_in(known)).sort(
            "shopper_id", "event_time", maintain_order=True
        )
    ).select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())
    if not len(events):
        raise UpdateError(f"{new.folder} has no event of a type that the release learned")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    events.write_parquet(folder / EVENTS_FILE)
    sessions = sessions_of(events.sort("session_id", maintain_order=True))
    sessions.select(
        pl.col(name).cast(dtype) for name, dtype in SESSION_SCHEMA.items()
    ).write_parquet(folder / SESSIONS_FILE)
    older = [] if replay is None else [replay.product_table().collect()]
    products = latest([known_products(serving.products), *older, new.product_table().collect()])
    products.write_parquet(folder / PRODUCTS_FILE)
    info_of(new, events, n_sessions=len(sessions), n_products=len(products)).save(folder)
    return Merged(Dataset.open(folder), dict(foreign["event_type"].value_counts().iter_rows()))


def check_alike(serving: Serving, replay: Dataset | None, new: Dataset) -> None:
    """Raises UpdateError unless visits and prices mean the same everywhere."""
    gap = serving.run.info.model.session_gap_s
    for dataset in (new, *([] if replay is None else [replay])):
        if dataset.info.session_gap_s != gap:
            raise UpdateError(
                f"visits end after {dataset.info.session_gap_s} idle seconds in {dataset.folder}, "
                f"after {gap} in release {serving.release_id}: prepare the log with a mapping that "
                f"says gap_minutes = {gap / 60:g}"
            )
    currencies = {each.info.currency for each in (new, replay) if each is not None}
    currencies |= {product.currency for product in serving.products}
    if len(currencies - {""}) > 1:
        raise UpdateError(
            f"prices are in {' and '.join(sorted(currencies - {''}))}: prepare the log in the "
            f"currency of release {serving.release_id}"
        )


def joined(old: pl.DataFrame, new: pl.DataFrame) -> list[pl.DataFrame]:
    """Returns the old events and the new ones behind them, with sessions counted on."""
    last = old.select(pl.col("event_time").max(), pl.col("session_id").max()).row(0)
    later = new.filter(pl.col("event_time") > last[0])
    return [old, later.with_columns(pl.col("session_id") + (last[1] + 1))]


def latest(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Returns every product once, each of its parts by the last table that knows it."""
    title, categories, price = pl.col("title"), pl.col("categories"), pl.col("price")
    told = (title != "") | (categories.list.len() > 0) | price.is_not_null()
    texts = (pl.col(name) for name in ("title", "description", "brand"))
    return (
        pl.concat(tables)
        .group_by("product_id", maintain_order=True)
        .agg(
            *(text.filter(text != "").last().fill_null("") for text in texts),
            categories.filter(categories.list.len() > 0).last(),
            price.drop_nulls().last(),
            pl.col("currency").filter(price.is_not_null()).last().fill_null(""),
            pl.col("in_stock").filter(told).last().fill_null(True),
            pl.col("n_events").sum().cast(pl.UInt32),
            pl.col("first_seen_time").min(),
            pl.col("last_seen_time").max(),
        )
        .with_columns(categories.fill_null(pl.lit([], dtype=pl.List(pl.String))))
        .sort("product_id")
        .select(list(PRODUCT_SCHEMA))
    )


def info_of(new: Dataset, events: pl.DataFrame, *, n_sessions: int, n_products: int) -> DatasetInfo:
    """Returns what dataset.json says."""
    present = set(events["event_type"].unique())
    times = events["event_time"]
    return DatasetInfo(
        format_version=FORMAT_VERSION,
        mapping=new.info.mapping,
        event_types=tuple(name for name in EVENT_TYPES if name in present),
        observed_from=int(times.min()),  # type: ignore[arg-type]
        observed_until=int(times.max()),  # type: ignore[arg-type]
        session_rule=new.info.session_rule,
        session_gap_s=new.info.session_gap_s,
        currency=new.info.currency,
        n_events=len(events),
        n_sessions=n_sessions,
        n_shoppers=events["shopper_id"].n_unique(),
        n_products=n_products,
    )
