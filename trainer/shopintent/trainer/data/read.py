"""Log files as batches of raw text columns, one row per record, malformed records marked.

CSV is split line by line (a quoted field may hold the delimiter but no line break), so a broken
line costs itself and nothing after it.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shopintent.trainer.data.mapping import FORMATS, FileFormat
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.data.tables import did_you_mean
from shopintent.trainer.data.text_files import TextChunk, header_line, text_chunks

ROW = "row"
MALFORMED = "malformed"
PARQUET_ROWS = 500_000
UNIT_SEPARATOR = "\x1f"


class PrepareError(ValueError):
    """A log cannot be prepared; the message names the file, the column and the remedy."""


@dataclass(frozen=True)
class RawBatch:
    """Some of a file's records."""

    rows: pl.LazyFrame
    """ROW, MALFORMED, and every column asked for under raw_name."""
    invalid_utf8_lines: int


def raw_name(column: str) -> str:
    """Returns what a log's column is called in the frame, apart from our own columns."""
    return f"raw:{column}"


def read_log(
    path: Path, file_format: FileFormat, columns: Sequence[str], progress: Progress
) -> Iterator[RawBatch]:
    """Yields the file's records in order, as many at a time as fit in memory with ease.

    Raises PrepareError for an empty or unreadable file and for a missing column.
    """
    kind = file_format.format or _kind(path)
    size = path.stat().st_size
    if size == 0:
        raise PrepareError(f"{path}: is empty; export it again or leave it out of the mapping.")
    if kind == "parquet":
        yield from _read_parquet(path, columns, progress)
        return
    names = [] if kind == "jsonl" else _csv_columns(path, file_format)
    if kind == "csv":
        _check_columns(path, columns, names)
    try:
        for chunk in text_chunks(path):
            lines = _lines(chunk)
            if kind == "jsonl":
                rows = _json_rows(lines, columns)
            else:
                rows = _csv_rows(lines, file_format, names, columns)
            yield RawBatch(rows, chunk.invalid_utf8_lines)
            progress(f"read {path.name}", chunk.bytes_read, size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PrepareError(f"{path}: cannot be unpacked ({error}); copy it again.") from error


def _kind(path: Path) -> str:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    kind = {".tsv": "csv", ".txt": "csv", ".ndjson": "jsonl", ".json": "jsonl"}.get(suffix)
    kind = kind or suffix.removeprefix(".")
    if kind not in FORMATS:
        raise PrepareError(
            f'{path}: the suffix tells no format; set format = "csv", "jsonl" or "parquet".'
        )
    return kind


def _read_parquet(path: Path, columns: Sequence[str], progress: Progress) -> Iterator[RawBatch]:
    try:
        frame = pl.scan_parquet(path)
        schema = frame.collect_schema()
        n_rows = int(frame.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PrepareError(f"{path}: is not readable Parquet ({error}).") from error
    _check_columns(path, columns, list(schema))
    rows = frame.with_row_index(ROW).select(
        pl.col(ROW).cast(pl.Int64),
        pl.lit(False).alias(MALFORMED),
        *(_as_text(column, schema[column]).alias(raw_name(column)) for column in columns),
    )
    for start in range(0, n_rows, PARQUET_ROWS):
        yield RawBatch(rows.slice(start, PARQUET_ROWS), 0)
        progress(f"read {path.name}", min(start + PARQUET_ROWS, n_rows), n_rows)


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


def _lines(chunk: TextChunk) -> pl.LazyFrame:
    """Returns ROW, the number of the line in the file, and `line`; blank lines are left out."""
    numbered = pl.scan_lines(
        chunk.data, name="line", row_index_name=ROW, row_index_offset=chunk.first_line
    )
    return numbered.with_columns(
        pl.col(ROW).cast(pl.Int64), pl.col("line").str.strip_chars_end("\r")
    ).filter(pl.col("line") != "")


def _json_rows(lines: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
    line = pl.col("line")
    return lines.select(
        ROW,
        _is_json_object().not_().alias(MALFORMED),
        *(line.str.json_path_match(_json_path(name)).alias(raw_name(name)) for name in columns),
    )


def _is_json_object() -> pl.Expr:
    parsed = pl.col("line").str.json_path_match("$").is_not_null()
    return parsed & pl.col("line").str.starts_with("{")


def _json_path(column: str) -> str:
    """A dot reaches into an object: product.id is $['product']['id']."""
    return "$" + "".join(f"['{key}']" for key in column.split("."))


def _csv_rows(
    lines: pl.LazyFrame, file_format: FileFormat, names: Sequence[str], columns: Sequence[str]
) -> pl.LazyFrame:
    split = pl.col("line").map_batches(
        lambda line: split_lines(line, file_format),
        return_dtype=pl.List(pl.String),
        is_elementwise=True,
    )
    fields = pl.col("fields")
    return (
        lines.filter(pl.col(ROW) >= (1 if file_format.has_header else 0))
        .select(ROW, split.alias("fields"))
        .select(
            ROW,
            (fields.list.len() != len(names)).alias(MALFORMED),
            *(
                fields.list.get(names.index(name), null_on_oob=True).alias(raw_name(name))
                for name in columns
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
    unquoted = _split_all_quoted(lines.filter(quoted).to_list(), file_format)
    # Joined for the way to polars, which takes texts many times faster than lists of them.
    joined = [UNIT_SEPARATOR.join(fields) for fields in unquoted]
    split = pl.Series(joined, dtype=pl.String).str.split(UNIT_SEPARATOR)
    nth_quoted = (quoted.cum_sum().cast(pl.Int64) - 1).clip(0)
    return split.gather(nth_quoted).zip_with(quoted, fields).alias(lines.name)


def _split_all_quoted(lines: list[str], file_format: FileFormat) -> list[list[str]]:
    """One reader for all lines is ten times faster, but an unclosed quote swallows what follows."""
    try:
        fields = list(_csv_reader(lines, file_format))
    except csv.Error:
        fields = []
    if len(fields) == len(lines):
        return fields
    return [_split_quoted(line, file_format) for line in lines]


def _split_quoted(line: str, file_format: FileFormat) -> list[str]:
    try:
        return next(_csv_reader([line], file_format), [])
    except csv.Error:
        return []


def _csv_reader(lines: list[str], file_format: FileFormat) -> Iterator[list[str]]:
    return csv.reader(
        lines, delimiter=file_format.delimiter, quotechar=file_format.quote, strict=True
    )


def _csv_columns(path: Path, file_format: FileFormat) -> list[str]:
    if not file_format.has_header:
        return list(file_format.column_names)
    line = header_line(path)
    names = _split_quoted(line, file_format) if file_format.quote else []
    return [name.strip() for name in names or line.split(file_format.delimiter)]


def _check_columns(path: Path, columns: Sequence[str], known: Sequence[str]) -> None:
    for column in columns:
        if column not in known:
            raise PrepareError(
                f'{path}: has no column "{column}"; name the right one in the mapping.'
                f"{did_you_mean(column, known)}"
            )
