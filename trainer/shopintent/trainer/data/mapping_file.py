"""Reads a mapping from TOML, strictly: every mistake is named with its file, key and remedy."""

from __future__ import annotations

import tomllib
from datetime import datetime
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from shopintent.behavior import EVENT_TYPES
from shopintent.trainer.data.mapping import (
    FORMATS,
    IGNORE,
    MISSING_VALUES,
    Attributes,
    Catalog,
    Cleaning,
    Columns,
    FileFormat,
    Mapping,
    Session,
    Source,
    Time,
)
from shopintent.trainer.data.tables import MappingError, Table, did_you_mean

FORMAT_VERSION = 1


def shipped_mappings() -> list[str]:
    """Returns the names of the mappings that come with the trainer."""
    folder = resources.files("shopintent.trainer") / "mappings"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if ".toml" in f.name)


def load_mapping(name_or_path: str | Path) -> Mapping:
    """Returns a shipped mapping by its name, or one read from a file. Raises MappingError."""
    path = Path(name_or_path)
    if path.suffix != ".toml" and path.name == str(name_or_path):
        names = shipped_mappings()
        if path.name not in names:
            raise MappingError(
                f'"{name_or_path}" is no shipped mapping; give one of them or the path of a '
                f".toml file.{did_you_mean(path.name, names)}"
            )
        shipped = resources.files("shopintent.trainer") / "mappings" / f"{path.name}.toml"
        return parse_mapping(shipped.read_text("utf-8"), f"{path.name}.toml")
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise MappingError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise MappingError(f"{path}: is not UTF-8 text; save it as UTF-8.") from error
    return parse_mapping(text, str(path))


def parse_mapping(text: str, origin: str) -> Mapping:
    """Returns the mapping of a TOML text; `origin` names it in errors. Raises MappingError."""
    try:
        root = Table(origin, "", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"{origin}: is not valid TOML: {error}") from error
    version = root.integer("format_version", 0)
    if version != FORMAT_VERSION:
        raise root.error("format_version", f"must be {FORMAT_VERSION}, the version read here.")
    name = root.text("name", required=True)
    session = _session(root.table("session"))
    cleaning = _cleaning(root.table("cleaning"))
    catalog = _catalog(root.table("catalog"))
    missing_values = root.texts("missing_values") or MISSING_VALUES
    sources = tuple(_source(table, root) for table in root.tables("sources"))
    if not sources:
        raise root.error("sources", "is missing; name the log's files in one or more [[sources]].")
    root.finish()
    if session.rule == "column" and not any(source.columns.session_id for source in sources):
        raise root.error(
            "session.rule", 'is "column" but no source names columns.session_id; name it.'
        )
    return Mapping(str(name), origin, sources, session, cleaning, catalog, missing_values)


def _source(table: Table, root: Table) -> Source:
    """A source's own table is used instead of the top-level one of the same name."""

    def own_or_shared(key: str) -> Table | None:
        shared = root.table(key)
        return table.table(key) or shared

    columns_table = own_or_shared("columns")
    if columns_table is None:
        raise table.error("columns", "is missing; say which column holds what in [columns].")
    columns = _columns(columns_table)
    event_types = _event_types(own_or_shared("event_types"))
    event_type = table.text("event_type")
    if (event_type is None) == (columns.event_type is None):
        raise table.error(
            "event_type",
            "give either columns.event_type or one event_type for all rows of the source.",
        )
    if event_type is not None:
        _check_event_type(table, "event_type", event_type)
    elif not event_types:
        raise table.error(
            "event_types", "is missing; say what each value of columns.event_type means."
        )
    source = Source(
        files=table.texts("files", required=True),
        file_format=_file_format(table),
        columns=columns,
        event_type=event_type,
        event_types=event_types,
        time=_time(own_or_shared("time")),
        attributes=_attributes(own_or_shared("product")),
    )
    table.finish()
    return source


def _file_format(table: Table) -> FileFormat:
    file_format = FileFormat(
        format=table.text("format"),
        has_header=table.boolean("has_header", True),
        column_names=table.texts("column_names"),
        delimiter=str(table.text("delimiter", ",")),
        quote=str(table.text("quote", '"')),
    )
    if file_format.format is not None and file_format.format not in FORMATS:
        raise table.error("format", f"must be one of {', '.join(FORMATS)}.")
    if not file_format.has_header and not file_format.column_names:
        raise table.error("column_names", "is missing; files without a header need them.")
    if file_format.has_header and file_format.column_names:
        raise table.error("column_names", "is for files with has_header = false; remove one.")
    if len(file_format.delimiter) != 1:
        raise table.error("delimiter", "must be one character.")
    if len(file_format.quote) > 1:
        raise table.error("quote", 'must be one character, or "" for none.')
    return file_format


def _columns(table: Table) -> Columns:
    columns = Columns(
        event_time=table.texts("event_time", required=True),
        shopper_id=str(table.text("shopper_id", required=True)),
        event_type=table.text("event_type"),
        product_id=table.text("product_id"),
        category=table.texts("category"),
        category_separator=table.text("category_separator"),
        search_query=table.text("search_query"),
        quantity=table.text("quantity"),
        session_id=table.text("session_id"),
    )
    table.finish()
    return columns


def _attributes(table: Table | None) -> Attributes:
    if table is None:
        return Attributes()
    attributes = Attributes(
        title=table.texts("title"),
        description=table.text("description"),
        brand=table.text("brand"),
        category=table.texts("category"),
        category_separator=table.text("category_separator"),
        fallback_category=table.text("fallback_category"),
        price=table.text("price"),
        currency=str(table.text("currency", "")),
        currency_column=table.text("currency_column"),
        in_stock=table.text("in_stock"),
    )
    currency = attributes.currency
    if currency and not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise table.error("currency", 'must be an ISO 4217 code such as "EUR".')
    if currency and attributes.currency_column:
        raise table.error("currency", "give either currency or currency_column.")
    table.finish()
    return attributes


def _event_types(table: Table | None) -> dict[str, str]:
    if table is None:
        return {}
    event_types: dict[str, str] = {}
    for raw, canonical in table.items().items():
        if not isinstance(canonical, str):
            raise table.error(raw, f"must be an event type, not {canonical!r}.")
        if canonical != IGNORE:
            _check_event_type(table, raw, canonical)
        event_types[raw] = canonical
    return event_types


def _check_event_type(table: Table, key: str, event_type: str) -> None:
    if event_type not in EVENT_TYPES:
        hint = did_you_mean(event_type, (*EVENT_TYPES, IGNORE))
        raise table.error(key, f'"{event_type}" is no event type.{hint}')


def _time(table: Table | None) -> Time:
    if table is None:
        return Time()
    time = Time(
        unit=str(table.text("unit", "iso")),
        timezone=str(table.text("timezone", "UTC")),
        prefix=str(table.text("prefix", "")),
        digits=table.integer("digits", 0),
    )
    if time.unit not in ("s", "ms", "us", "iso") and "%" not in time.unit:
        raise table.error(
            "unit", f'must be "s", "ms", "us", "iso" or a strptime format, not "{time.unit}".'
        )
    if time.timezone not in available_timezones():
        raise table.error("timezone", f'"{time.timezone}" is unknown; use "Europe/Berlin" style.')
    table.finish()
    return time


def _session(table: Table | None) -> Session:
    if table is None:
        return Session()
    session = Session(
        rule=str(table.text("rule", "gap")),
        gap_minutes=table.number("gap_minutes", 30.0, minimum=1.0),
    )
    if session.rule not in ("gap", "column"):
        raise table.error("rule", 'must be "gap" or "column".')
    table.finish()
    return session


def _cleaning(table: Table | None) -> Cleaning:
    if table is None:
        return Cleaning()
    default = Cleaning()
    cleaning = Cleaning(
        duplicates=str(table.text("duplicates", default.duplicates)),
        max_events_per_day=table.integer("max_events_per_day", default.max_events_per_day),
        max_events_per_minute=table.integer("max_events_per_minute", default.max_events_per_minute),
        bot_minutes=table.integer("bot_minutes", default.bot_minutes, minimum=1),
        earliest=_moment(table, "earliest") or default.earliest,
        latest=_moment(table, "latest"),
        max_price=table.number("max_price", default.max_price),
        anonymous_shopper_ids=table.texts("anonymous_shopper_ids"),
    )
    if cleaning.duplicates not in ("drop", "keep"):
        raise table.error("duplicates", 'must be "drop" or "keep".')
    if cleaning.latest is not None and cleaning.latest <= cleaning.earliest:
        raise table.error("latest", "must be after earliest.")
    table.finish()
    return cleaning


def _moment(table: Table, key: str) -> int | None:
    text = table.text(key)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise table.error(key, 'must be an ISO time such as "2024-05-01T00:00:00Z".') from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo("UTC"))
    return int(moment.timestamp())


def _catalog(table: Table | None) -> Catalog | None:
    if table is None:
        return None
    columns = table.table("columns")
    if columns is None:
        raise table.error("columns", "is missing; say which column holds what.")
    product_id = str(columns.text("product_id", required=True))
    catalog = Catalog(
        file=str(table.text("file", required=True)),
        file_format=_file_format(table),
        product_id=product_id,
        attributes=_attributes(columns),
    )
    table.finish()
    return catalog
