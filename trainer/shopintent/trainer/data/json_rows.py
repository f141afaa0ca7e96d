"""JSON records as columns: one object a line, or a whole file that is a list of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from shopintent.trainer.data.columns import MALFORMED, ROW, raw_name


def json_rows(lines: pl.LazyFrame, columns: Sequence[str], explode: str | None) -> pl.LazyFrame:
    """Returns ROW, MALFORMED and the columns of lines.

    A dot in a column's name reaches into an object. With `explode`, the list at that name becomes
    one row an element, found under the list's own name.
    """
    if explode is not None:
        lines = _exploded(lines.collect(), columns, explode.split(".")).lazy()
    line = pl.col("line")
    return lines.select(
        ROW,
        _is_json_object().not_().alias(MALFORMED),
        *(line.str.json_path_match(_json_path(name)).alias(raw_name(name)) for name in columns),
    )


def lines_of_list(text: str) -> pl.LazyFrame:
    """Returns ROW and `line` of a file that is one list of objects. Raises ValueError."""
    records = json.loads(text)
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    return pl.LazyFrame({ROW: range(len(lines)), "line": lines}, {ROW: pl.Int64, "line": pl.String})


def _is_json_object() -> pl.Expr:
    parsed = pl.col("line").str.json_path_match("$").is_not_null()
    return parsed & pl.col("line").str.starts_with("{")


def _json_path(column: str) -> str:
    """A dot reaches into an object: product.id is $['product']['id']."""
    return "$" + "".join(f"['{key}']" for key in column.split("."))


def _exploded(lines: pl.DataFrame, columns: Sequence[str], path: list[str]) -> pl.DataFrame:
    kept = {column.split(".")[0] for column in columns}
    rows: list[int] = []
    texts: list[str] = []
    for row, line in lines.select(ROW, "line").iter_rows():
        elements = list(_elements(line, kept, path))
        rows += [row] * len(elements)
        texts += elements
    return pl.DataFrame({ROW: rows, "line": texts}, {ROW: pl.Int64, "line": pl.String})


def _elements(line: str, kept: set[str], path: list[str]) -> Iterator[str]:
    """Yields the record once an element; a record without the list is itself the event."""
    try:
        record = json.loads(line)
        holder: Any = record
        for key in path[:-1]:
            holder = holder[key]
        elements = holder[path[-1]]
    except (ValueError, KeyError, TypeError):
        yield line
        return
    if not isinstance(elements, list):
        yield line
        return
    record = {key: value for key, value in record.items() if key in kept}
    for element in elements:
        holder[path[-1]] = element
        if len(path) == 1:
            record[path[0]] = element
        yield json.dumps(record, ensure_ascii=False)
