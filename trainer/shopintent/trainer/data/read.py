"""Log files as batches of raw text columns, one row per record, malformed records marked."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import polars as pl

from shopintent.trainer.data.columns import MALFORMED, ROW, raw_name
from shopintent.trainer.data.csv_rows import csv_layout, csv_rows
from shopintent.trainer.data.json_rows import json_rows, lines_of_list
from shopintent.trainer.data.mapping import FORMATS, FileFormat
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.data.tables import did_you_mean
from shopintent.trainer.data.text_files import TextChunk, header_line, plain_suffix, text_chunks

SUFFIXES = {".tsv": "csv", ".txt": "csv", ".dat": "csv", ".ndjson": "jsonl", ".json": "jsonl"}
PARQUET_ROWS = 500_000


class PrepareError(ValueError):
    """A log cannot be prepared; the message names the file, the column and the remedy."""


@dataclass(frozen=True)
class RawBatch:
    """Some of a file's records."""

    rows: pl.LazyFrame
    """ROW, MALFORMED, and every column asked for under raw_name."""
    invalid_utf8_lines: int


def read_log(
    path: Path, file_format: FileFormat, columns: Sequence[str], progress: Progress
) -> Iterator[RawBatch]:
    """Yields the file's records in order, as many at a time as fit in memory with ease.

    Raises PrepareError for an empty or unreadable file and for a missing column.
    """
    kind = file_kind(path, file_format)
    if path.stat().st_size == 0:
        raise PrepareError(f"{path}: is empty; export it again or leave it out of the mapping.")
    if kind == "parquet":
        yield from _read_parquet(path, columns, file_format.explode, progress)
        return
    try:
        yield from _read_text(path, kind, file_format, columns, progress)
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise PrepareError(f"{path}: cannot be unpacked ({error}); copy it again.") from error


def file_kind(path: Path, file_format: FileFormat) -> str:
    """Returns one of FORMATS. Raises PrepareError where neither suffix nor mapping tell."""
    if file_format.format:
        return file_format.format
    suffix = plain_suffix(path)
    kind = SUFFIXES.get(suffix, suffix.removeprefix("."))
    if kind not in FORMATS:
        remedy = 'set format = "csv", "jsonl" or "parquet".'
        if suffix in (".zip", ".tar", ".7z", ".rar"):
            remedy = "unpack it."
        elif suffix in (".xlsx", ".xls"):
            remedy = "save it as CSV."
        raise PrepareError(f"{path}: the suffix tells no format that is read; {remedy}")
    return kind


def column_names(path: Path, file_format: FileFormat) -> list[str]:
    """Returns the columns of a CSV or Parquet file."""
    if file_kind(path, file_format) == "parquet":
        return list(pl.read_parquet_schema(path))
    return csv_layout(path, file_format, ())[0]


def _read_text(
    path: Path, kind: str, file_format: FileFormat, columns: Sequence[str], progress: Progress
) -> Iterator[RawBatch]:
    names: list[str] = []
    if kind == "csv":
        names, file_format = csv_layout(path, file_format, columns)
        _check_columns(path, columns, names)
    elif header_line(path, file_format.encoding).lstrip().startswith("["):
        yield from _read_json_list(path, file_format, columns, progress)
        return
    size = path.stat().st_size
    for chunk in text_chunks(path, file_format.encoding):
        lines = _lines(chunk)
        if kind == "jsonl":
            rows = json_rows(lines, columns, file_format.explode)
        else:
            rows = csv_rows(lines, file_format, names, columns)
        yield RawBatch(rows, chunk.invalid_utf8_lines)
        progress(f"read {path.name}", chunk.bytes_read, size)


def _read_json_list(
    path: Path, file_format: FileFormat, columns: Sequence[str], progress: Progress
) -> Iterator[RawBatch]:
    chunks = list(text_chunks(path, file_format.encoding))
    try:
        lines = lines_of_list(b"".join(chunk.data for chunk in chunks).decode("utf-8"))
    except ValueError as error:
        raise PrepareError(
            f"{path}: begins with [ but is no JSON list ({error}); write one object a line."
        ) from error
    yield RawBatch(json_rows(lines, columns, file_format.explode), 0)
    progress(f"read {path.name}", 1, 1)


def _read_parquet(
    path: Path, columns: Sequence[str], explode: str | None, progress: Progress
) -> Iterator[RawBatch]:
    try:
        frame = pl.scan_parquet(path)
        schema = frame.collect_schema()
        n_rows = int(frame.select(pl.len()).collect().item())
        if explode is not None:
            _check_columns(path, [explode], list(schema))
            frame = frame.with_row_index(ROW).explode(explode)
            schema = frame.collect_schema()
        else:
            frame = frame.with_row_index(ROW)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PrepareError(f"{path}: is not readable Parquet ({error}).") from error
    fields = [_field(path, column, schema) for column in columns]
    rows = frame.select(
        pl.col(ROW).cast(pl.Int64),
        pl.lit(False).alias(MALFORMED),
        *(
            _as_text(field, dtype).alias(raw_name(column))
            for column, (field, dtype) in zip(columns, fields, strict=True)
        ),
    )
    for start in range(0, n_rows, PARQUET_ROWS):
        in_part = pl.col(ROW).is_between(start, start + PARQUET_ROWS - 1)
        part = rows.slice(start, PARQUET_ROWS) if explode is None else rows.filter(in_part)
        yield RawBatch(part, 0)
        progress(f"read {path.name}", min(start + PARQUET_ROWS, n_rows), n_rows)


def _field(path: Path, column: str, schema: pl.Schema) -> tuple[pl.Expr, pl.DataType]:
    """Returns a column, or the field of a struct that a dot reaches into."""
    if column in schema:
        return pl.col(column), schema[column]
    name, *keys = column.split(".")
    if not keys or name not in schema:
        _check_columns(path, [column], list(schema))
    field, dtype = pl.col(name), schema[name]
    for key in keys:
        known = {each.name: each.dtype for each in dtype.fields} if _is_struct(dtype) else {}
        _check_columns(path, [key], list(known), of=name)
        field, dtype = field.struct.field(key), known[key]  # type: ignore[assignment]
    return field, dtype


def _is_struct(dtype: pl.DataType) -> TypeGuard[pl.Struct]:
    return isinstance(dtype, pl.Struct)


def _as_text(expression: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Times keep their type; whole floats lose ".0", so that 13085.0 is the shopper 13085."""
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


def _check_columns(
    path: Path, columns: Sequence[str], known: Sequence[str], of: str | None = None
) -> None:
    for column in columns:
        if column not in known:
            where = f' in "{of}"' if of else ""
            raise PrepareError(
                f'{path}: has no column "{column}"{where}; name the right one in the mapping.'
                f"{did_you_mean(column, known)}"
            )
