"""Lines of a CSV file as columns.

They are split line by line (a quoted field may hold the delimiter but no line break), so a broken
line costs itself and nothing after it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from shopintent.trainer.data.columns import MALFORMED, ROW, raw_name
from shopintent.trainer.data.mapping import FileFormat
from shopintent.trainer.data.text_files import header_line

DELIMITERS = (",", "\t", ";", "|", " ")
"""Those that are tried where a mapping names none."""
UNIT_SEPARATOR = "\x1f"


def csv_layout(
    path: Path, file_format: FileFormat, columns: Sequence[str]
) -> tuple[list[str], FileFormat]:
    """Returns the file's column names, and its format with the delimiter it is written with.

    Where the mapping names no delimiter, it is the one that finds the most of the columns wanted.
    """
    line = header_line(path, file_format.encoding)
    delimiters = (file_format.delimiter,) if file_format.delimiter else DELIMITERS
    layouts = [_layout(line, replace(file_format, delimiter=each)) for each in delimiters]

    def found(layout: tuple[list[str], FileFormat, bool]) -> tuple[int, bool]:
        return len(set(columns) & set(layout[0])), layout[2]

    names, settled, _ = max(layouts, key=found)
    return names, settled


def _layout(line: str, file_format: FileFormat) -> tuple[list[str], FileFormat, bool]:
    """Returns the columns, the format, and whether the first line has as many fields."""
    fields = _split_quoted(line, file_format) if _quotes(file_format) else []
    fields = fields or line.split(str(file_format.delimiter))
    if file_format.has_header:
        return [field.strip() for field in fields], file_format, True
    names = list(file_format.column_names)
    return names, file_format, len(fields) == len(names)


def csv_rows(
    lines: pl.LazyFrame, file_format: FileFormat, names: Sequence[str], columns: Sequence[str]
) -> pl.LazyFrame:
    """Returns ROW, MALFORMED and the columns of lines; `names` are all that the file has."""
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
    fields = lines.str.split(str(file_format.delimiter))
    if not _quotes(file_format):
        return fields
    quoted = lines.str.contains(file_format.quote, literal=True)
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
        lines, delimiter=str(file_format.delimiter), quotechar=file_format.quote, strict=True
    )


def _quotes(file_format: FileFormat) -> bool:
    """A delimiter of several characters, as in 1::1193::5, comes without quotes."""
    return bool(file_format.quote) and len(str(file_format.delimiter)) == 1
