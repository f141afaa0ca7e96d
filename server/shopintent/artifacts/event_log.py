"""The records of the event log: what servers write and the trainer reads.

A log is a folder. Ids of shoppers in it are pseudonyms.

event-log.json                                        its version, and how far it was written
segments/2026-11-22-0000000017.jsonl                  records, a line each, that servers append to
days/2026-11-22/events-0000000012-0000000017.parquet  what segments 12 to 17 of a day became
products.jsonl                                        the products that the catalog changed
                                                      since releases were made

Days are those of `received_at`, in UTC. `log_files` says which files hold each record once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
LOG_FILE = "event-log.json"
SEGMENTS = "segments"
DAYS = "days"
PRODUCTS_FILE = "products.jsonl"
"""The newest state of each product written since releases were made, one a line."""

_DAY = r"(?P<day>\d{4}-\d{2}-\d{2})"
_SEGMENT = re.compile(rf"{_DAY}-(?P<number>\d{{10}})\.jsonl")
_COMPACTED = re.compile(r"events-(?P<first>\d{10})-(?P<last>\d{10})\.parquet")

IMPRESSION = "impression"
"""The type of a record of products that were shown; it is no behavior."""
LOGIN = "login"
"""The type of a record that says that `alias` is `shopper` from now on; it is no behavior."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of the log. Fields that do not belong to its type are empty."""

    source: str
    """Which numbering `sequence` belongs to: a store of sessions, or a part of one."""
    sequence: int
    """Rises with every record of its source; the two together name a record once."""
    received_at: float
    """Unix seconds at which a server recorded it."""
    shopper: str
    """The pseudonym of whoever did it."""
    event_type: str
    """One of `shopintent.behavior.EVENT_TYPES`, IMPRESSION or LOGIN."""
    event_time: int
    """Unix time in whole seconds."""
    event_id: str = ""
    product_id: str = ""
    category: str = ""
    search_query: str = ""
    quantity: int = 0
    attribution_token: str = ""
    """Names the answer that led to the event."""
    experiment_ids: tuple[str, ...] = ()
    shown_product_ids: tuple[str, ...] = ()
    """In the order shown; of an IMPRESSION."""
    alias: str = ""
    """The pseudonym that the shopper had until a LOGIN."""

    def to_line(self) -> bytes:
        """Returns the record as one line of JSON."""
        # Not `asdict`, which copies: servers do this for every event.
        values = dict(zip(_NAMES, _VALUES(self), strict=True))
        return _ENCODER.encode(values).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> LogRecord:
        """Reads a line. Raises ValueError for one that is torn or of another format."""
        try:
            return cls.from_fields(json.loads(line))
        except TypeError as error:
            raise ValueError(f"is no record of the event log: {error}") from error

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> LogRecord:
        """Returns the record of what JSON or Parquet held."""
        lists = {
            name: tuple(fields.get(name) or ()) for name in ("experiment_ids", "shown_product_ids")
        }
        return cls(**{**fields, **lists})


_NAMES = tuple(each.name for each in fields(LogRecord))
_VALUES = attrgetter(*_NAMES)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, order=True)
class Segment:
    """A file of records of one day; of all segments of a log each has another number."""

    day: str
    number: int

    @property
    def name(self) -> str:
        """Its name in SEGMENTS."""
        return f"{self.day}-{self.number:010d}.jsonl"

    @classmethod
    def parse(cls, name: str) -> Segment | None:
        """Returns the segment of a file's name; None when it is none's."""
        found = _SEGMENT.fullmatch(name)
        return cls(found["day"], int(found["number"])) if found else None


@dataclass(frozen=True, order=True)
class Compacted:
    """A Parquet file: what the segments of a day became whose numbers are in its range."""

    day: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """Its name in the folder of its day in DAYS."""
        return f"events-{self.first:010d}-{self.last:010d}.parquet"

    def covers(self, segment: Segment) -> bool:
        """Returns whether it holds what the segment held, which must not be read any more."""
        return segment.day == self.day and self.first <= segment.number <= self.last

    @classmethod
    def parse(cls, day: str, name: str) -> Compacted | None:
        """Returns the file of a name; None when it is none."""
        found = _COMPACTED.fullmatch(name)
        return cls(day, int(found["first"]), int(found["last"])) if found else None


def segments(folder: Path) -> dict[Segment, Path]:
    """Returns every segment in a log, covered ones too, in order."""
    found = ((Segment.parse(path.name), path) for path in (folder / SEGMENTS).glob("*.jsonl"))
    return dict(sorted((segment, path) for segment, path in found if segment is not None))


def compacted(folder: Path) -> dict[Compacted, Path]:
    """Returns every Parquet file in a log, in order."""
    found = (
        (Compacted.parse(path.parent.name, path.name), path)
        for path in (folder / DAYS).glob("*/events-*.parquet")
    )
    return dict(sorted((each, path) for each, path in found if each is not None))


def log_files(folder: Path) -> list[Path]:
    """Returns the files that together hold each record of a log once, oldest day first.

    Servers may compact and delete meanwhile: where a file is gone by the time it is opened, call
    it again. The last line of a segment may still be being written: without its end it is no
    record.
    """
    # In this order: a segment that went meanwhile is held by a Parquet file that is seen then.
    in_segments = segments(folder)
    in_days = compacted(folder)
    left = {
        segment: path
        for segment, path in in_segments.items()
        if not any(each.covers(segment) for each in in_days)
    }
    by_age = [
        *((each.day, each.first, path) for each, path in in_days.items()),
        *((each.day, each.number, path) for each, path in left.items()),
    ]
    return [path for _, _, path in sorted(by_age)]


def segment_lines(path: Path) -> Iterator[bytes]:
    """Yields the whole lines of a segment; not one that is still being written."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line
