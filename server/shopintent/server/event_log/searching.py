"""Searches a log: the bytes of all its files, and who its records name.

Whoever searches holds FILES_LOCK, so that no file is rewritten meanwhile.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from shopintent.artifacts.event_log import LOGIN, LogRecord, log_files, segment_lines
from shopintent.server import byte_search
from shopintent.server.event_log import parquet
from shopintent.server.event_log.files import FILES_LOCK, OnProgress, holding, make_folders

PARQUET = ".parquet"


def occurrences(folder: Path, texts: Collection[str], on_progress: OnProgress) -> int:
    """Returns how often texts occur in the bytes of all files, and in what Parquet files hold."""
    make_folders(folder)
    forms: dict[str, list[str]] = {form: [] for text in texts for form in _written_forms(text)}
    with holding(folder / FILES_LOCK):
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        found = 0
        for done, path in enumerate(paths, 1):
            found += byte_search.count([path], forms)
            if path.suffix == PARQUET:
                found += sum(byte_search.count_in(part, forms) for part in parquet.decoded(path))
            on_progress(done, len(paths))
    return found


def count_by_key(folder: Path, on_progress: OnProgress) -> Counter[str]:
    """Returns how many records name shoppers with each key of the ring, by its id."""
    counts: Counter[str] = Counter()
    with holding(folder / FILES_LOCK):
        paths = log_files(folder)
        for done, path in enumerate(paths, 1):
            if path.suffix == PARQUET:
                counts.update(parquet.count_by_key(path))
            else:
                counts.update(each.shopper.partition("-")[0] for each in _records(path))
            on_progress(done, len(paths))
    return counts


def logins(paths: Collection[Path]) -> set[tuple[str, str]]:
    """Returns shopper and alias of every login in files; whoever calls holds FILES_LOCK."""
    pairs = set(parquet.logins([path for path in paths if path.suffix == PARQUET]))
    for path in paths:
        if path.suffix != PARQUET:
            found = _records(path, f'"event_type":"{LOGIN}"'.encode())
            pairs.update((record.shopper, record.alias) for record in found)
    return pairs


def _records(path: Path, among: bytes = b"") -> Iterator[LogRecord]:
    """Yields the records of a segment whose lines contain some bytes."""
    for line in segment_lines(path):
        if among in line:
            with suppress(ValueError):
                yield LogRecord.from_line(line)


def _written_forms(text: str) -> set[str]:
    """Returns how a text may stand in a file, as it is or in JSON."""
    return {text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]}
