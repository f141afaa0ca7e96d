"""The prepared dataset: the folder that `prepare` writes and training reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from shopintent.behavior import Product
from shopintent.trainer.data.products import PRODUCT_SCHEMA

FORMAT_VERSION = 1
INFO_FILE = "dataset.json"
EVENTS_FILE = "events.parquet"
SESSIONS_FILE = "sessions.parquet"
PRODUCTS_FILE = "products.parquet"
REPORT_FILE = "report.json"
REPORT_TEXT_FILE = "report.md"

EVENT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "shopper_id": pl.String,
    "session_id": pl.UInt32,
    "event_type": pl.String,
    "event_time": pl.Int64,
    "product_id": pl.String,
    "category": pl.String,
    "search_query": pl.String,
    "quantity": pl.Int32,
    "next_action": pl.String,
    "next_purchase_time": pl.Int64,
}
"""Sorted by shopper_id, event_time, order in the log. Times are unix seconds. quantity is 0 for
events that are not about units, 1 where the log does not say."""

SESSION_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "session_id": pl.UInt32,
    "shopper_id": pl.String,
    "start_time": pl.Int64,
    "end_time": pl.Int64,
    "n_events": pl.UInt32,
    "outcome": pl.String,
}


class DatasetError(ValueError):
    """A folder is no prepared dataset that can be read; the message says why."""


@dataclass(frozen=True)
class DatasetInfo:
    """What dataset.json says."""

    format_version: int
    mapping: str
    event_types: tuple[str, ...]
    """Those present, in the order of shopintent.behavior.EVENT_TYPES."""
    observed_from: int
    observed_until: int
    """Unix times of the first and the last event."""
    session_rule: str
    session_gap_s: int
    currency: str
    n_events: int
    n_sessions: int
    n_shoppers: int
    n_products: int

    def save(self, folder: Path) -> None:
        """Writes dataset.json."""
        text = json.dumps(asdict(self), indent=2)
        (folder / INFO_FILE).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset on disk; tables are read when asked for."""

    folder: Path
    info: DatasetInfo

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Returns the dataset in a folder. Raises DatasetError when it is not a whole one."""
        dataset = cls(folder, _read_info(folder / INFO_FILE))
        tables = (
            (EVENTS_FILE, EVENT_SCHEMA),
            (SESSIONS_FILE, SESSION_SCHEMA),
            (PRODUCTS_FILE, PRODUCT_SCHEMA),
        )
        for file, schema in tables:
            _check_table(folder / file, list(schema))
        return dataset

    def events(self) -> pl.LazyFrame:
        """Returns the events, EVENT_SCHEMA."""
        return pl.scan_parquet(self.folder / EVENTS_FILE)

    def sessions(self) -> pl.LazyFrame:
        """Returns the sessions, SESSION_SCHEMA."""
        return pl.scan_parquet(self.folder / SESSIONS_FILE)

    def product_table(self) -> pl.LazyFrame:
        """Returns the products, PRODUCT_SCHEMA, sorted by product_id."""
        return pl.scan_parquet(self.folder / PRODUCTS_FILE)

    def products(self) -> Iterator[Product]:
        """Yields the products in order of product_id."""
        for row in self.product_table().collect().iter_rows(named=True):
            yield Product(
                product_id=row["product_id"],
                title=row["title"],
                description=row["description"],
                brand=row["brand"],
                categories=tuple(row["categories"]),
                price=None if row["price"] is None else Decimal(row["price"]),
                currency=row["currency"],
                in_stock=row["in_stock"],
            )

    def report(self) -> dict[str, Any]:
        """Returns what `prepare` counted, report.json."""
        report: dict[str, Any] = json.loads((self.folder / REPORT_FILE).read_text("utf-8"))
        return report


def is_dataset(folder: Path) -> bool:
    """Returns whether a folder holds a prepared dataset of any format version."""
    return (folder / INFO_FILE).is_file() and (folder / EVENTS_FILE).is_file()


def _read_info(path: Path) -> DatasetInfo:
    remedy = "run `shopintent-trainer prepare` to make one."
    if not path.is_file():
        raise DatasetError(f"{path.parent}: holds no prepared dataset ({path.name}); {remedy}")
    try:
        values = json.loads(path.read_text("utf-8"))
        version = values["format_version"]
        if version != FORMAT_VERSION:
            raise DatasetError(
                f"{path}: is of format version {version}, this trainer reads {FORMAT_VERSION}; "
                "prepare the log again."
            )
        values["event_types"] = tuple(values["event_types"])
        return DatasetInfo(**values)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: is damaged ({error}); prepare the log again.") from error


def _check_table(path: Path, columns: list[str]) -> None:
    if not path.is_file():
        raise DatasetError(f"{path}: is missing; prepare the log again.")
    try:
        found = list(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(f"{path}: is damaged ({error}); prepare the log again.") from error
    if found != columns:
        raise DatasetError(f"{path}: has columns {found}, not {columns}; prepare the log again.")
