"""Reads a mapping from TOML, strictly: every mistake is named with its file, key and remedy."""

from __future__ import annotations

import codecs
import tomllib
from importlib import resources
from pathlib import Path

from shopintent.trainer.data.mapping import (
    FORMATS,
    MISSING_VALUES,
    ORDER,
    Attributes,
    Catalog,
    Columns,
    FileFormat,
    Join,
    Mapping,
    Properties,
    Source,
    Time,
)
from shopintent.trainer.data.mapping_sections import (
    check_event_type,
    read_cleaning,
    read_event_types,
    read_session,
    read_time,
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
    session = read_session(root.table("session"))
    cleaning = read_cleaning(root.table("cleaning"))
    catalog = _catalog(root.table("catalog"))
    named = root.texts("missing_values", may_be_none=True)
    missing_values = ("", *(named if "missing_values" in root else MISSING_VALUES))
    sources = tuple(_source(table, root) for table in root.tables("sources"))
    if not sources:
        raise root.error("sources", "is missing; name the log's files in one or more [[sources]].")
    root.finish()
    if session.rule == "column" and not any(source.columns.session_id for source in sources):
        raise root.error(
            "session.rule", 'is "column" but no source names columns.session_id; name it.'
        )
    if len({source.time.unit == ORDER for source in sources}) > 1:
        raise root.error("time.unit", 'is "order" for some sources only; all need times, or none.')
    return Mapping(str(name), origin, sources, session, cleaning, catalog, missing_values)


def _source(table: Table, root: Table) -> Source:
    """A source's own table is used instead of the top-level one of the same name."""

    def own_or_shared(key: str) -> Table | None:
        shared = root.table(key)
        return table.table(key) or shared

    columns_table = own_or_shared("columns")
    if columns_table is None:
        raise table.error("columns", "is missing; say which column holds what in [columns].")
    time = read_time(own_or_shared("time"))
    columns = _columns(columns_table, time)
    event_types = read_event_types(own_or_shared("event_types"))
    event_type = table.text("event_type")
    if (event_type is None) == (columns.event_type is None):
        raise table.error(
            "event_type",
            "give either columns.event_type or one event_type for all rows of the source.",
        )
    if event_type is not None:
        check_event_type(table, "event_type", event_type)
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
        time=time,
        attributes=_attributes(own_or_shared("product")),
        joins=_joins(table),
    )
    table.finish()
    return source


def _file_format(table: Table) -> FileFormat:
    file_format = FileFormat(
        format=table.text("format"),
        has_header=table.boolean("has_header", True),
        column_names=table.texts("column_names"),
        delimiter=table.text("delimiter"),
        quote=str(table.text("quote", '"')),
        encoding=str(table.text("encoding", "utf-8")),
        explode=table.text("explode"),
    )
    if file_format.format is not None and file_format.format not in FORMATS:
        raise table.error("format", f"must be one of {', '.join(FORMATS)}.")
    if not file_format.has_header and not file_format.column_names:
        raise table.error("column_names", "is missing; files without a header need them.")
    if file_format.has_header and file_format.column_names:
        raise table.error("column_names", "is for files with has_header = false; remove one.")
    if file_format.delimiter == "":
        raise table.error("delimiter", "is empty; give one, or leave it out to have it found.")
    if len(file_format.quote) > 1:
        raise table.error("quote", 'must be one character, or "" for none.')
    try:
        codecs.lookup(file_format.encoding)
    except LookupError:
        raise table.error("encoding", 'is unknown; use "utf-8", "latin-1", "cp1252"...') from None
    return file_format


def _joins(table: Table) -> tuple[Join, ...]:
    joins = []
    for each in table.tables("join"):
        key = each.texts("on", required=True)
        if len(key) > 2:
            raise each.error("on", "is the key's column, or two: here and in the joined file.")
        joins.append(
            Join(
                file=str(each.text("file", required=True)),
                file_format=_file_format(each),
                key=key[0],
                file_key=key[-1],
                columns=each.texts("columns", required=True),
            )
        )
        each.finish()
    return tuple(joins)


def _columns(table: Table, time: Time) -> Columns:
    shopper_id = table.texts("shopper_id")
    if not shopper_id:
        raise table.error(
            "shopper_id",
            "is missing; give the column of the shopper, or of the session where the log knows no "
            "shoppers.",
        )
    event_time = table.texts("event_time")
    if not event_time and time.unit != ORDER:
        raise table.error(
            "event_time",
            "is missing; give the column of the time. A log that has only an order needs "
            '[time] unit = "order".',
        )
    columns = Columns(
        shopper_id=shopper_id,
        event_time=event_time,
        order=table.text("order"),
        event_type=table.text("event_type"),
        product_id=table.texts("product_id"),
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


def _catalog(table: Table | None) -> Catalog | None:
    if table is None:
        return None
    columns = table.table("columns")
    if columns is None:
        raise table.error("columns", "is missing; say which column holds what.")
    catalog = Catalog(
        files=table.texts("file", required=True),
        file_format=_file_format(table),
        product_id=str(columns.text("product_id", required=True)),
        attributes=_attributes(columns),
        joins=_joins(table),
        properties=_properties(table.table("properties")),
    )
    table.finish()
    return catalog


def _properties(table: Table | None) -> Properties | None:
    if table is None:
        return None
    properties = Properties(
        name=str(table.text("name", required=True)),
        value=str(table.text("value", required=True)),
        time=table.text("time"),
    )
    table.finish()
    return properties
