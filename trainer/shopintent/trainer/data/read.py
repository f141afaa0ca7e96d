"""Log files as lazy frames of raw text columns, one row per record, malformed records marked.

CSV is split line by line (a quoted field may hold the delimiter but no line break), so a broken
line costs itself and nothing after it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shopintent.trainer.data.mapping import FORMATS, FileFormat
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.data.tables import did_you_mean
from shopintent.trainer.data.text_files import as_utf8, opened

ROW = "row"
MALFORMED = "malformed"


class PrepareError(ValueError):
    """A log cannot be prepared; the message names the file, the column and the remedy."""


@dataclass(frozen=True)
class RawLog:
    """One file's records."""

    rows: pl.LazyFrame
    """ROW, MALFORMED, and every column asked for under raw_name."""
    n_lines: int
    """About how many rows there are, for progress."""
    invalid_utf8_lines: int


def raw_name(column: str) -> str:
    """Returns what a log's column is called in the frame, apart from our own columns."""
    return f"raw:{column}"


def read_log(
    path: Path,
    file_format: FileFormat,
    columns: Sequence[str],
    work: Path,
    progress: Progress,
) -> RawLog:
    """Returns the file's records. Raises PrepareError for an empty file or a missing column."""
    kind = file_format.format or _kind(path)
    if path.stat().st_size == 0:
        raise PrepareError(f"{path}: is empty; export it again or leave it out of the mapping.")
    if kind == "parquet":
        return _read_parquet(path, columns)
    text = as_utf8(path, work / f"{path.name}.utf8", progress)
    if kind == "jsonl":
        rows = _read_jsonl(text.path, columns)
    else:
        rows = _read_csv(path, text.path, file_format, columns)
    return RawLog(rows, text.n_lines, text.invalid_utf8_lines)


def _kind(path: Path) -> str:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    kind = {".tsv": "csv", ".txt": "csv", ".ndjson": "jsonl", ".json": "jsonl"}.get(suffix)
    kind = kind or suffix.removeprefix(".")
    if kind not in FORMATS:
        raise PrepareError(
            f'{path}: the suffix tells no format; set format = "csv", "jsonl" or "parquet".'
        )
    return kind


def _read_parquet(path: Path, columns: Sequence[str]) -> RawLog:
    try:
        frame = pl.scan_parquet(path)
        schema = frame.collect_schema()
        n_rows = frame.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PrepareError(f"{path}: is not readable Parquet ({error}).") from error
    _check_columns(path, columns, list(schema))
    rows = frame.with_row_index(ROW).select(
        pl.col(ROW).cast(pl.Int64),
        pl.lit(False).alias(MALFORMED),
        *(_as_text(column, schema[column]).alias(raw_name(column)) for column in columns),
    )
    return RawLog(rows, int(n_rows), 0)


def _as_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Times keep their type; whole floats lose ".0", so that 13085.0 is the shopper 13085."""
    expression = pl.col(column)
    if dtype.is_temporal():
        return expression
    if dtype.is_float():
        whole = (expression == expression.floor()) & (expression.abs() < 2**53)
        as_int = expression.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(whole).then(as_int).otherwise(expression.cast(pl.String))
    return expression.cast(pl.String)


def _read_jsonl(text: Path, columns: Sequence[str]) -> pl.LazyFrame:
    line = pl.col("line").str.strip_chars("\ufeff \r\t")
    return (
        pl.scan_lines(text, name="line", row_index_name=ROW)
        .with_columns(line)
        .filter(pl.col("line") != "")
        .select(
            pl.col(ROW).cast(pl.Int64),
            _is_json_object().not_().alias(MALFORMED),
            *(
                pl.col("line").str.json_path_match(_json_path(column)).alias(raw_name(column))
                for column in columns
            ),
        )
    )


def _is_json_object() -> pl.Expr:
    parsed = pl.col("line").str.json_path_match("$").is_not_null()
    return parsed & pl.col("line").str.starts_with("{")


def _json_path(column: str) -> str:
    """A dot reaches into an object: product.id is $['product']['id']."""
    return "$" + "".join(f"['{key}']" for key in column.split("."))


def _read_csv(
    path: Path, text: Path, file_format: FileFormat, columns: Sequence[str]
) -> pl.LazyFrame:
    names = list(file_format.column_names) or _csv_header(path, file_format)
    _check_columns(path, columns, names)
    line = pl.col("line").str.strip_chars_end("\r")
    fields = pl.col("line").map_batches(
        lambda lines: split_lines(lines, file_format),
        return_dtype=pl.List(pl.String),
        is_elementwise=True,
    )
    first_row = 1 if file_format.has_header else 0
    return (
        pl.scan_lines(text, name="line", row_index_name=ROW)
        .filter(pl.col(ROW) >= first_row)
        .with_columns(line)
        .filter(pl.col("line") != "")
        .select(pl.col(ROW).cast(pl.Int64), fields.alias("fields"))
        .select(
            ROW,
            (pl.col("fields").list.len() != len(names)).alias(MALFORMED),
            *(
                pl.col("fields")
                .list.get(names.index(column), null_on_oob=True)
                .alias(raw_name(column))
                for column in columns
            ),
        )
    )


def split_lines(lines: pl.Series, file_format: FileFormat) -> pl.Series:
    """Returns the fields of every line; a line with an unclosed quote has none."""
    fields = lines.str.split(file_format.delimiter)
    quote = file_format.quote
    if not quote:
        return fields
    quoted = lines.str.contains(quote, literal=True)
    if not quoted.any():
        return fields
    split = pl.Series(
        [_split_quoted(line, file_format) for line in lines.filter(quoted)],
        dtype=pl.List(pl.String),
    )
    nth_quoted = (quoted.cum_sum().cast(pl.Int64) - 1).clip(0)
    return split.gather(nth_quoted).zip_with(quoted, fields).alias(lines.name)


def _split_quoted(line: str, file_format: FileFormat) -> list[str]:
    try:
        reader = csv.reader(
            [line], delimiter=file_format.delimiter, quotechar=file_format.quote, strict=True
        )
        return next(reader, [])
    except csv.Error:
        return []


def _csv_header(path: Path, file_format: FileFormat) -> list[str]:
    with opened(path) as stream:
        line = stream.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
    names = _split_quoted(line, file_format) if file_format.quote else []
    return [name.strip() for name in names or line.split(file_format.delimiter)]


def _check_columns(path: Path, columns: Sequence[str], known: Sequence[str]) -> None:
    for column in columns:
        if column not in known:
            raise PrepareError(
                f'{path}: has no column "{column}"; name the right one in the mapping.'
                f"{did_you_mean(column, known)}"
            )
