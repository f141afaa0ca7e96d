"""The records of the event log: what servers write and the trainer reads.

A log is a folder with `event-log.json`, segments of JSON lines that servers append to, and one or
more Parquet files a day that old segments became. Ids of shoppers are pseudonyms.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

FORMAT_VERSION = 1
LOG_FILE = "event-log.json"
SEGMENTS = "segments"
DAYS = "days"
PRODUCTS_FILE = "products.jsonl"
"""The catalog as it is now, one product a line, written as a whole."""

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
        text = json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))
        return text.encode() + b"\n"

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
