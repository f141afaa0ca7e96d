"""The first records of a log's files, whatever they are written in, as columns of texts."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from shopintent.trainer.data.columns import raw_name
from shopintent.trainer.data.csv_rows import DELIMITERS
from shopintent.trainer.data.mapping import FORMATS, MISSING_VALUES, FileFormat
from shopintent.trainer.data.progress import silent
from shopintent.trainer.data.read import SUFFIXES, PrepareError, file_kind, read_log
from shopintent.trainer.data.text_files import plain_suffix, text_chunks

RECORDS = 2_000
MAX_LIST = 50
"""Elements of a list in a record that are looked at."""


@dataclass(frozen=True)
class Sample:
    """What the first records of a file hold."""

    path: Path
    file_format: FileFormat
    columns: dict[str, list[str]]
    """The values of every column that are not empty, in order; structs reach by a dot."""
    n_records: int


def log_files(log: Path) -> list[Path]:
    """Returns the files of a folder, or the one file, that can be read. Raises PrepareError."""
    if not log.exists():
        raise PrepareError(f"{log}: there is no such file or folder.")
    paths = [log] if log.is_file() else sorted(path for path in log.iterdir() if path.is_file())
    readable = (*SUFFIXES, *(f".{name}" for name in FORMATS))
    found = [path for path in paths if plain_suffix(path) in readable and path.stat().st_size]
    if not found:
        raise PrepareError(f"{log}: holds no CSV, JSONL or Parquet file; unpack archives first.")
    return found


def take_sample(path: Path) -> Sample:
    """Reads the first records of a file and how it is written. Raises PrepareError."""
    kind = file_kind(path, FileFormat())
    if kind == "parquet":
        return _parquet_sample(path)
    chunk = next(text_chunks(path)).data
    text = chunk.decode("utf-8", errors="replace").removeprefix("\ufeff")
    if kind == "jsonl":
        return _json_sample(path, text)
    return _csv_sample(path, text, "utf-8" if "\ufffd" not in text else "latin-1")


def _parquet_sample(path: Path) -> Sample:
    schema = pl.read_parquet_schema(path)
    lists = [
        name
        for name, dtype in schema.items()
        if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct)
    ]
    file_format = FileFormat(explode=lists[0] if lists else None)
    names = [field for name, dtype in schema.items() for field in _fields(name, dtype)]
    batch = next(read_log(path, file_format, names, silent))
    rows = batch.rows.head(RECORDS).collect()
    columns = {name: _known(rows[raw_name(name)].cast(pl.String).to_list()) for name in names}
    return Sample(path, file_format, columns, len(rows))


def _fields(name: str, dtype: object) -> list[str]:
    """Returns the names of a column's fields, behind dots; what cannot be a text has none."""
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    if isinstance(inner, pl.Struct):
        return [each for f in inner.fields for each in _fields(f"{name}.{f.name}", f.dtype)]
    nested = isinstance(dtype, (pl.List, pl.Array, pl.Binary, pl.Object))
    return [] if nested else [name]


def _known(values: Sequence[str | None]) -> list[str]:
    return [each.strip() for each in values if each and each.strip() not in ("", *MISSING_VALUES)]


def _json_sample(path: Path, text: str) -> Sample:
    if text.lstrip().startswith("["):
        records = _parsed(path.read_text("utf-8-sig")) or []
    else:
        lines = (line for line in text.splitlines() if line.strip())
        records = [_parsed(line) for line in islice(lines, RECORDS)]
    columns: dict[str, list[str]] = {}
    lists: set[str] = set()
    objects = [record for record in records[:RECORDS] if isinstance(record, dict)]
    if not objects:
        raise PrepareError(f"{path}: holds no JSON objects, one a line or in a list.")
    for record in objects:
        _flatten(record, "", columns, lists)
    return Sample(path, FileFormat(explode=min(lists, default=None)), columns, len(objects))


def _parsed(text: str) -> Any:
    """A line that is broken is left out of the sample; `prepare` counts it."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _flatten(value: Any, name: str, columns: dict[str, list[str]], lists: set[str]) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            _flatten(each, f"{name}.{key}" if name else key, columns, lists)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        lists.add(name)
        for each in value[:MAX_LIST]:
            _flatten(each, name, columns, lists)
    else:
        texts = columns.setdefault(name, [])
        if value is not None:
            texts += _known([value if isinstance(value, str) else json.dumps(value)])


def _csv_sample(path: Path, text: str, encoding: str) -> Sample:
    lines = [line for line in islice(text.splitlines(), RECORDS + 1) if line.strip()]
    delimiter = max((*DELIMITERS, "::"), key=lambda each: _fields_a_line(lines, each))
    rows = _split(lines, delimiter)
    file_format = FileFormat(encoding=encoding, delimiter=delimiter)
    names = [name.strip() for name in rows[0]]
    if _is_header(rows):
        rows = rows[1:]
    else:
        names = [f"column_{number}" for number in range(1, len(names) + 1)]
        file_format = replace(file_format, has_header=False, column_names=tuple(names))
    columns = {
        name: _known([row[i] for row in rows if i < len(row)]) for i, name in enumerate(names)
    }
    return Sample(path, file_format, columns, len(rows))


def _fields_a_line(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """Returns how well a delimiter splits: the share of lines alike, and their fields."""
    counts = [len(row) for row in _split(lines[:50], delimiter)]
    usual = max(set(counts), key=counts.count)
    # A long delimiter that fits is no accident; and one field a line is no table.
    return (counts.count(usual) / len(counts) if usual > 1 else 0.0, usual + len(delimiter))


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if len(delimiter) > 1:
        return [line.split(delimiter) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return [line.split(delimiter) for line in lines]


def _is_header(rows: list[list[str]]) -> bool:
    """A header is of different words, none of which is a number."""
    first = [field.strip() for field in rows[0]]
    if len(rows) == 1 or len(set(first)) < len(first):
        return False
    return not any(field.replace(".", "").replace("-", "").isdigit() for field in first)
