"""Compacted files of the log; the one module of the server that imports polars.

Only processes of their own load it: polars takes every core, and memory that servers need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import polars as pl

from shopintent.artifacts.event_log import LOGIN
from shopintent.artifacts.placing import sync
from shopintent.server.event_log.files import EventLogError

SCHEMA: dict[str, pl.DataType] = {
    "source": pl.String(),
    "sequence": pl.Int64(),
    "received_at": pl.Float64(),
    "shopper": pl.String(),
    "event_type": pl.String(),
    "event_time": pl.Int64(),
    "event_id": pl.String(),
    "product_id": pl.String(),
    "category": pl.String(),
    "search_query": pl.String(),
    "quantity": pl.Int64(),
    "attribution_token": pl.String(),
    "experiment_ids": pl.List(pl.String()),
    "shown_product_ids": pl.List(pl.String()),
    "alias": pl.String(),
}
"""The fields of LogRecord."""

GROUP_ROWS = 100_000
"""Rows that are written, and searched, at once."""


def compact(segments: Sequence[Path], written: Path) -> int:
    """Writes the records of segments to a Parquet file, in order; returns how many.

    It is on the disk then. Raises EventLogError when not every line is a record.
    """
    lines = sum(path.read_bytes().count(b"\n") for path in segments)
    filled = [path for path in segments if path.stat().st_size]
    if not lines:
        return 0
    try:
        _write(pl.scan_ndjson(filled, schema=pl.Schema(SCHEMA)), written)
    except pl.exceptions.PolarsError as error:
        raise EventLogError(f"{_named(segments)} cannot be read: {error}") from error
    rows = count(written)
    if rows != lines:
        raise EventLogError(f"{_named(segments)} hold {lines} lines, but {rows} records")
    return rows


def count(path: Path) -> int:
    """Returns how many records a file holds."""
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def logins(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Returns shopper and alias of every LOGIN in files."""
    if not paths:
        return []
    found = pl.scan_parquet(list(paths)).filter(pl.col("event_type") == LOGIN)
    return found.select("shopper", "alias").unique().collect().rows()


def write_without(path: Path, names: Collection[str], written: Path) -> tuple[int, int]:
    """Writes what is left of a file without those who have a name; returns what went and is left.

    Nothing is written where all stays or all goes.
    """
    gone = _named_one_of(names)
    every = count(path)
    n_gone = int(pl.scan_parquet(path).filter(gone).select(pl.len()).collect().item())
    if 0 < n_gone < every:
        _write(pl.scan_parquet(path).filter(~gone), written)
    return n_gone, every - n_gone


def count_by_key(path: Path) -> Counter[str]:
    """Returns how many records name a shopper with each key."""
    key = pl.col("shopper").str.split("-").list.first()
    rows = pl.scan_parquet(path).group_by(key).agg(pl.len()).collect().rows()
    return Counter(dict(rows))


def decoded(path: Path) -> Iterator[bytes]:
    """Yields everything a file holds, as lines of JSON; in the file itself it is compressed."""
    frame = pl.scan_parquet(path)
    for start in range(0, count(path), GROUP_ROWS):
        yield frame.slice(start, GROUP_ROWS).collect().write_ndjson().encode()


def _write(frame: pl.LazyFrame, written: Path) -> None:
    frame.sink_parquet(written, compression="zstd", row_group_size=GROUP_ROWS, maintain_order=True)
    sync(written)


def _named_one_of(names: Collection[str]) -> pl.Expr:
    listed = list(names)
    named = pl.col("shopper").is_in(listed) | pl.col("alias").is_in(listed)
    return named.fill_null(False)


def _named(paths: Sequence[Path]) -> str:
    return f"{paths[0]} to {paths[-1].name}"
