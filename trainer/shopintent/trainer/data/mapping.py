"""The mapping: how one shop's log files become events."""

from __future__ import annotations

from dataclasses import dataclass, field

IGNORE = "ignore"
"""The canonical name for a raw event type that is to be left out on purpose."""
FORMATS = ("csv", "jsonl", "parquet")
MISSING_VALUES = ("", "null", "NULL", "None", "NaN", "nan", "N/A", "\\N")


@dataclass(frozen=True)
class Columns:
    """Which column of the log holds which field of an event."""

    event_time: tuple[str, ...]
    """Several columns, such as date and time of day, are joined by a space."""
    shopper_id: str
    event_type: str | None = None
    product_id: str | None = None
    category: tuple[str, ...] = ()
    """The category viewed; several columns are the levels of its path."""
    category_separator: str | None = None
    search_query: str | None = None
    quantity: str | None = None
    session_id: str | None = None


@dataclass(frozen=True)
class Attributes:
    """Which column holds which attribute of a product."""

    title: tuple[str, ...] = ()
    """Several columns are joined by a space."""
    description: str | None = None
    brand: str | None = None
    category: tuple[str, ...] = ()
    """Several columns are the levels of its path."""
    category_separator: str | None = None
    fallback_category: str | None = None
    """Used where the category is empty."""
    price: str | None = None
    currency: str = ""
    """ISO 4217, the same for all prices."""
    currency_column: str | None = None
    in_stock: str | None = None


@dataclass(frozen=True)
class Time:
    """How event times are written."""

    unit: str = "iso"
    """ "s", "ms" or "us" since 1970, "iso", or a strptime format."""
    timezone: str = "UTC"
    """Of times that name none."""
    prefix: str = ""
    """Written before the text, for example the year that a log leaves out."""
    digits: int = 0
    """Zeros are put in front of a shorter text, before the prefix is."""


@dataclass(frozen=True)
class Session:
    """What makes a visit: a pause of gap_minutes ends it, or the log numbers its sessions."""

    rule: str = "gap"
    gap_minutes: float = 30.0


@dataclass(frozen=True)
class Cleaning:
    """Limits beyond which rows are dropped; 0 switches a limit off."""

    duplicates: str = "drop"
    max_events_per_day: int = 1000
    """A shopper with more events on one day (UTC), purchases aside, is a bot."""
    max_events_per_minute: int = 30
    """A shopper above it, purchases aside, in bot_minutes different minutes is a bot."""
    bot_minutes: int = 5
    earliest: int = 946_684_800
    """Unix time; 2000-01-01 unless told."""
    latest: int | None = None
    """Unix time; None is the moment of preparing."""
    max_price: float = 10_000_000.0
    anonymous_shopper_ids: tuple[str, ...] = ()
    """Ids that stand for nobody in particular, such as "0"."""


@dataclass(frozen=True)
class FileFormat:
    """How the files of a source are written; csv details do not matter to the others."""

    format: str | None = None
    """None: by the file's suffix, .gz aside."""
    has_header: bool = True
    column_names: tuple[str, ...] = ()
    delimiter: str = ","
    quote: str = '"'


@dataclass(frozen=True)
class Source:
    """Files alike, and how to read them."""

    files: tuple[str, ...]
    """Globs relative to the log folder."""
    file_format: FileFormat
    columns: Columns
    event_type: str | None
    """The canonical type of every row, for files without such a column."""
    event_types: dict[str, str]
    """Raw to canonical event type."""
    time: Time
    attributes: Attributes


@dataclass(frozen=True)
class Catalog:
    """A file with one product a row; what it says goes before what events say."""

    file: str
    file_format: FileFormat
    product_id: str
    attributes: Attributes


@dataclass(frozen=True)
class Mapping:
    """How one shop's logs become events."""

    name: str
    origin: str
    """The file it was read from, for messages."""
    sources: tuple[Source, ...]
    session: Session = field(default_factory=Session)
    cleaning: Cleaning = field(default_factory=Cleaning)
    catalog: Catalog | None = None
    missing_values: tuple[str, ...] = MISSING_VALUES
