"""The mapping: how one shop's log files become events."""

from __future__ import annotations

from dataclasses import dataclass, field

IGNORE = "ignore"
"""The canonical name for a raw event type that is to be left out on purpose."""
ANY_OTHER = "*"
"""The raw event type that stands for all that are not named."""
ISO = "iso"
ORDER = "order"
"""The time unit of a log that knows only in which order things happened."""
FORMATS = ("csv", "jsonl", "parquet")
MISSING_VALUES = ("null", "NULL", "None", "NaN", "nan", "N/A", "NA", "\\N")
"""What stands for nothing, beside the empty text."""


@dataclass(frozen=True)
class Columns:
    """Which column of the log holds which field of an event."""

    shopper_id: tuple[str, ...]
    """Of several columns the first that is not empty counts, such as a session where nobody is
    logged in."""
    event_time: tuple[str, ...] = ()
    """Several columns, such as date and time of day, are joined by a space. None only where the
    order of the rows is all there is."""
    order: str | None = None
    """A number that orders events of one time, for logs that know only the day."""
    event_type: str | None = None
    product_id: tuple[str, ...] = ()
    """Of several columns the first that is not empty counts."""
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

    unit: str = ISO
    """ "iso", a strptime format, one of times.SECONDS_PER, or "order": the log knows only in which
    order things happened."""
    timezone: str = "UTC"
    """Of times that name none."""
    start: int = 0
    """Unix time that numbers count from."""
    step_minutes: float = 1440.0
    """How far apart steps of an "order" are taken to be; a day makes each a visit of its own."""
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
    """None: by the file's suffix, .gz and the like aside."""
    has_header: bool = True
    column_names: tuple[str, ...] = ()
    delimiter: str | None = None
    """None: the one of read.DELIMITERS that makes the columns wanted."""
    quote: str = '"'
    encoding: str = "utf-8"
    explode: str | None = None
    """The list in a record that is one event an element; its fields are named behind a dot."""


@dataclass(frozen=True)
class Join:
    """Columns that another file knows by a key, added to every row with that key."""

    file: str
    file_format: FileFormat
    key: str
    """The column of the rows."""
    file_key: str
    """The column of the file, where each value is in one row; else the last row counts."""
    columns: tuple[str, ...]


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
    """Raw to canonical event type; ANY_OTHER is all that are not named."""
    time: Time
    attributes: Attributes
    joins: tuple[Join, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """Files with one product a row, or one property of one; they go before what events say."""

    files: tuple[str, ...]
    """Globs relative to the log folder."""
    file_format: FileFormat
    product_id: str
    attributes: Attributes
    joins: tuple[Join, ...] = ()
    properties: Properties | None = None


@dataclass(frozen=True)
class Properties:
    """A catalog in long form: a row is one property of a product, named in a column."""

    name: str
    value: str
    time: str | None = None
    """Of several values the one of the greatest time counts, else the last in the file."""


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
    missing_values: tuple[str, ...] = ("", *MISSING_VALUES)

    @property
    def ordered(self) -> bool:
        """Whether the log tells no times, only an order."""
        return any(source.time.unit == ORDER for source in self.sources)

    @property
    def side_files(self) -> tuple[str, ...]:
        """Globs of files that are no log: the catalog, and what rows are joined with."""
        joins = [join for source in self.sources for join in source.joins]
        files = self.catalog.files if self.catalog else ()
        joins += self.catalog.joins if self.catalog else ()
        return (*files, *(join.file for join in joins))
