"""Records and sources for tests of the event log."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shopintent.artifacts.event_log import IMPRESSION, LOGIN, LogRecord, log_files, segment_lines
from shopintent.server.event_log import parquet
from shopintent.server.event_log.segments import SegmentWriter

DAY_S = 86_400
NOW = 1_764_000_000.0
"""2025-11-24T16:00:00Z"""
KEPT_DAYS = 90


def record(
    sequence: int, shopper: str = "k1-aa", *, source: str = "s", days_ago: float = 0
) -> LogRecord:
    """Returns a view of a product."""
    at = NOW - days_ago * DAY_S
    return LogRecord(
        source, sequence, at, shopper, "view-product", int(at), f"e{sequence}", f"p{sequence % 7}"
    )


def login(sequence: int, shopper: str, alias: str, *, days_ago: float = 0) -> LogRecord:
    """Returns a login: an alias became a shopper."""
    made = record(sequence, shopper, days_ago=days_ago)
    return replace(made, event_type=LOGIN, alias=alias, event_id="", product_id="")


def impression(sequence: int, shopper: str, *, days_ago: float = 0) -> LogRecord:
    """Returns an impression with everything that one may have."""
    made = record(sequence, shopper, days_ago=days_ago)
    return replace(
        made,
        event_type=IMPRESSION,
        product_id="",
        search_query='réd "shoes"',
        attribution_token="a1",
        experiment_ids=("checkout-7/b",),
        shown_product_ids=("p1", "p2"),
    )


def read_log(folder: Path) -> list[LogRecord]:
    """Returns every record of a log, as a reader finds them."""
    records: list[LogRecord] = []
    for path in log_files(folder):
        if path.suffix == ".parquet":
            lines = [line for part in parquet.decoded(path) for line in part.splitlines()]
        else:
            lines = list(segment_lines(path))
        records += map(LogRecord.from_line, lines)
    return records


def sequences(folder: Path, source: str = "s") -> list[int]:
    """Returns the sequences of a source in the order of the log."""
    return [each.sequence for each in read_log(folder) if each.source == source]


def append_in_parts(folder: Path, *, days: Sequence[float] = (2, 1, 0), n_parts: int = 2) -> None:
    """Writes a log of 6 records a part, each part a segment, with two shoppers of two names."""
    sequence = 0
    for days_ago in days:
        for _ in range(n_parts):
            numbers = range(sequence + 1, sequence + 7)
            aa, ab, bb, view, view_b, shown = numbers
            SegmentWriter(folder).append(
                [
                    record(aa, "k1-aa", days_ago=days_ago),
                    record(ab, "k1-ab", days_ago=days_ago),
                    record(bb, "k1-bb", days_ago=days_ago),
                    login(view, "k1-aa", "k1-ab", days_ago=days_ago),
                    login(view_b, "k1-bb", "k1-bc", days_ago=days_ago),
                    impression(shown, "k1-bc", days_ago=days_ago),
                ]
            )
            sequence += 6


def bytes_of(folder: Path) -> bytes:
    """Returns everything in a folder, Parquet also as text, to be searched."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.append(path.read_bytes())
            if path.suffix == ".parquet":
                found += parquet.decoded(path)
    return b"\n".join(found)


class ListSource:
    """A RecordSource that holds its records in memory."""

    def __init__(self, records: Sequence[LogRecord] = ()) -> None:
        self.held = list(records)

    async def waiting(self, *, limit: int = 10_000) -> list[LogRecord]:
        """Returns the oldest records that are held."""
        return self.held[:limit]

    async def logged(self, records: Sequence[LogRecord]) -> None:
        """Forgets records."""
        gone = set(records)
        self.held = [each for each in self.held if each not in gone]


class CountingSource:
    """A RecordSource that never ends and knows in a file, across deaths, what was logged.

    A record is made the first time it is asked for and the same each time after.
    """

    def __init__(self, path: Path, at_once: int = 50) -> None:
        self._path = path
        self._at_once = at_once

    @property
    def logged_through(self) -> int:
        """The sequence of the last record that was logged."""
        try:
            return int(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return 0

    async def waiting(self, *, limit: int = 10_000) -> list[LogRecord]:
        """Returns the next records."""
        first = self.logged_through + 1
        return [record(each, f"k1-{each % 5}") for each in range(first, first + self._at_once)]

    async def logged(self, records: Sequence[LogRecord]) -> None:
        """Remembers the last record."""
        written = self._path.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(records[-1].sequence))
        written.replace(self._path)


class NoCounts:
    """Counts nothing that is read."""

    def __init__(self) -> None:
        self.written = self.failures = 0
        self.waits: list[float] = []

    def log_written(self, records: int) -> None:
        """Adds to `written`."""
        self.written += records

    def log_failed(self) -> None:
        """Adds to `failures`."""
        self.failures += 1

    def log_waits(self, seconds: float) -> None:
        """Adds to `waits`."""
        self.waits.append(seconds)
