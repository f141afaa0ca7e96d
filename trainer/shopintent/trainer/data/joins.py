"""Columns that another file knows by a key: orders that name the shopper of their lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shopintent.trainer.data.clean import clean_text
from shopintent.trainer.data.columns import MALFORMED, raw_name
from shopintent.trainer.data.mapping import Join
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.data.read import PrepareError, read_log

KEY = "#key"


@dataclass(frozen=True)
class Joined:
    """A join and what its file says: KEY, once each, and the columns under raw_name."""

    join: Join
    table: pl.DataFrame


def load_joins(
    root: Path, joins: Sequence[Join], missing: tuple[str, ...], progress: Progress
) -> list[Joined]:
    """Reads the joined files, each whole. Raises PrepareError for one that is missing."""
    return [Joined(join, _load(root / join.file, join, missing, progress)) for join in joins]


def _load(path: Path, join: Join, missing: tuple[str, ...], progress: Progress) -> pl.DataFrame:
    if not path.is_file():
        raise PrepareError(f"{path}: there is no such file; correct `file` of the [[join]].")
    columns = list(dict.fromkeys([join.file_key, *join.columns]))
    names = [raw_name(column) for column in join.columns]
    parts = [
        batch.rows.filter(~pl.col(MALFORMED))
        .select(clean_text(join.file_key, missing).alias(KEY), *names)
        .collect()
        for batch in read_log(path, join.file_format, columns, progress)
    ]
    return pl.concat(parts).filter(pl.col(KEY).is_not_null()).unique(KEY, keep="last")


def columns_to_read(wanted: Sequence[str], joins: Sequence[Join]) -> list[str]:
    """Returns the columns that the file itself must have: those no join adds, and the keys."""
    columns = list(wanted)
    for join in reversed(joins):
        columns = [column for column in columns if column not in join.columns]
        columns += [join.key] if join.key not in columns else []
    return columns


def with_joins(
    rows: pl.LazyFrame, joins: Sequence[Joined], missing: tuple[str, ...]
) -> pl.LazyFrame:
    """Returns the rows with the columns of every join; null where the file has no such key."""
    for each in joins:
        key = clean_text(each.join.key, missing)
        rows = (
            rows.with_columns(key.alias(KEY))
            .join(each.table.lazy(), on=KEY, how="left", maintain_order="left")
            .drop(KEY)
        )
    return rows
