"""Raw records as canonical events, each bad one marked with the one reason it is dropped for."""

from __future__ import annotations

import polars as pl

from shopintent.behavior import PRODUCT_EVENT_TYPES
from shopintent.behavior.events import QUANTITY_EVENT_TYPES
from shopintent.behavior.products import CATEGORY_SEPARATOR
from shopintent.trainer.data.columns import MALFORMED, ROW, raw_name
from shopintent.trainer.data.mapping import (
    ANY_OTHER,
    IGNORE,
    Attributes,
    Mapping,
    Source,
)
from shopintent.trainer.data.times import temporal_seconds, unix_seconds

MALFORMED_LINE = "malformed line"
MISSING_SHOPPER = "missing shopper"
UNREADABLE_TIME = "missing or unreadable time"
TIME_OUT_OF_RANGE = "time out of range"
UNKNOWN_EVENT_TYPE = "unknown event type"
IGNORED_EVENT_TYPE = "ignored event type"
MISSING_PRODUCT = "missing product"
INVALID_QUANTITY = "invalid quantity"
DUPLICATE = "duplicate"
BOT = "bot"
REASONS = (
    MALFORMED_LINE,
    MISSING_SHOPPER,
    UNREADABLE_TIME,
    TIME_OUT_OF_RANGE,
    UNKNOWN_EVENT_TYPE,
    IGNORED_EVENT_TYPE,
    MISSING_PRODUCT,
    INVALID_QUANTITY,
    DUPLICATE,
    BOT,
)
"""Why rows are dropped. A row bad in several ways counts under the first."""

MAX_QUANTITY = 1_000_000
ATTRIBUTES = (
    "title",
    "description",
    "brand",
    "product_category",
    "price",
    "currency",
    "in_stock",
)
TRUE_TEXTS = ("1", "true", "t", "yes", "y", "in stock", "instock", "in_stock", "available")


def columns_needed(source: Source) -> list[str]:
    """Returns every column of the log that the source reads, each once."""
    columns = source.columns
    event_columns = [
        *columns.event_time,
        columns.order,
        *columns.shopper_id,
        columns.event_type,
        *columns.product_id,
        *columns.category,
        columns.search_query,
        columns.quantity,
        columns.session_id,
    ]
    wanted = [*event_columns, *attribute_columns(source.attributes)]
    return list(dict.fromkeys(column for column in wanted if column))


def attribute_columns(attributes: Attributes) -> list[str]:
    """Returns the columns that product attributes are read from."""
    columns = [
        *attributes.title,
        attributes.description,
        attributes.brand,
        *attributes.category,
        attributes.fallback_category,
        attributes.price,
        attributes.currency_column,
        attributes.in_stock,
    ]
    return [column for column in columns if column]


def canonical_events(
    rows: pl.LazyFrame, source: Source, mapping: Mapping, now: int
) -> pl.LazyFrame:
    """Returns one event a row, `reason` null for those to keep, in the order of the file."""
    columns, missing = source.columns, mapping.missing_values

    def text(column: str | None) -> pl.Expr:
        return clean_text(column, missing)

    order = text(columns.order).cast(pl.Float64, strict=False)
    raw_type = pl.lit(None, pl.String) if source.event_type else text(columns.event_type)
    events = rows.select(
        ROW,
        MALFORMED,
        raw_type.alias("raw_event_type"),
        _event_type(raw_type, source).alias("event_type"),
        _shopper(columns.shopper_id, mapping).alias("shopper_id"),
        _event_time(rows, source, mapping).alias("event_time"),
        order.alias("order"),
        _first_known([text(column) for column in columns.product_id]).alias("product_id"),
        category_path(columns.category, columns.category_separator, missing).alias("category"),
        text(columns.search_query).alias("search_query"),
        number_text(columns.quantity, missing).alias("quantity_text"),
        text(columns.session_id).alias("raw_session"),
        *attribute_values(source.attributes, missing, mapping.cleaning.max_price),
    )
    return _marked(events, mapping, now).drop(MALFORMED, "quantity_text")


def clean_text(column: str | None, missing: tuple[str, ...]) -> pl.Expr:
    """Returns the trimmed text of a raw column; null where missing, or without a column."""
    if column is None:
        return pl.lit(None, pl.String)
    text = pl.col(raw_name(column)).cast(pl.String).str.strip_chars()
    return pl.when(text.is_in(list(missing)).not_()).then(text)


def number_text(column: str | None, missing: tuple[str, ...]) -> pl.Expr:
    """As clean_text, but NaN is a broken number rather than a missing one."""
    return clean_text(column, tuple(text for text in missing if text.lower() != "nan"))


def category_path(
    columns: tuple[str, ...], separator: str | None, missing: tuple[str, ...]
) -> pl.Expr:
    """Returns "a > b > c" of one column with separators, or of one column a level."""
    if not columns:
        return pl.lit(None, pl.String)
    levels = [clean_text(column, missing) for column in columns]
    path = (
        levels[0]
        if len(levels) == 1
        else pl.concat_str(levels, separator=CATEGORY_SEPARATOR, ignore_nulls=True)
    )
    if separator is not None:
        path = path.str.replace_all(separator, CATEGORY_SEPARATOR, literal=True)
    path = path.str.replace_all(r"\s*>\s*", CATEGORY_SEPARATOR).str.strip_chars(" >")
    return pl.when(path != "").then(path)


def attribute_values(
    attributes: Attributes, missing: tuple[str, ...], max_price: float
) -> list[pl.Expr]:
    """Returns ATTRIBUTES and `invalid_price`, from the columns of a log or a catalog."""
    title = [clean_text(column, missing) for column in attributes.title]
    category = category_path(attributes.category, attributes.category_separator, missing)
    price_text = number_text(attributes.price, missing)
    number = amount(price_text)
    valid = (number.is_finite() & (number > 0) & (number <= max_price)).fill_null(False)
    in_stock = clean_text(attributes.in_stock, missing).str.to_lowercase()
    return [
        (pl.concat_str(title, separator=" ", ignore_nulls=True) if title else _no_text())
        .replace("", None)
        .alias("title"),
        clean_text(attributes.description, missing).alias("description"),
        clean_text(attributes.brand, missing).alias("brand"),
        pl.coalesce(category, clean_text(attributes.fallback_category, missing)).alias(
            "product_category"
        ),
        pl.when(valid).then(number).alias("price"),
        (
            clean_text(attributes.currency_column, missing)
            if attributes.currency_column
            else pl.lit(attributes.currency or None, pl.String)
        ).alias("currency"),
        in_stock.is_in(TRUE_TEXTS).alias("in_stock"),
        (price_text.is_not_null() & ~valid).alias("invalid_price"),
    ]


def amount(text: pl.Expr) -> pl.Expr:
    """Returns the number of "12.5", "1,234.50", "12,50" or "EUR 12.50"; null where there is none.

    A lone comma before three digits groups thousands; before fewer it is decimal.
    """
    digits = text.str.replace_all(r"[^0-9,.\-]", "").str.strip_chars(",.")
    decimal_comma = digits.str.contains(r"^-?[\d.]*,(\d{1,2}|\d{4,})$")
    swapped = digits.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    grouped = digits.str.replace_all(",", "", literal=True)
    written = pl.when(decimal_comma).then(swapped).otherwise(grouped)
    return pl.coalesce(text.cast(pl.Float64, strict=False), written.cast(pl.Float64, strict=False))


def _no_text() -> pl.Expr:
    return pl.lit(None, pl.String)


def _event_type(raw_type: pl.Expr, source: Source) -> pl.Expr:
    if source.event_type:
        return pl.lit(source.event_type)
    named = {raw: each for raw, each in source.event_types.items() if raw != ANY_OTHER}
    known = raw_type.replace_strict(
        list(named), list(named.values()), default=None, return_dtype=pl.String
    )
    other = pl.lit(source.event_types.get(ANY_OTHER), pl.String)
    return pl.coalesce(known, pl.when(raw_type.is_not_null()).then(other))


def _first_known(texts: list[pl.Expr]) -> pl.Expr:
    return pl.coalesce(texts) if texts else pl.lit(None, pl.String)


def _shopper(columns: tuple[str, ...], mapping: Mapping) -> pl.Expr:
    """Ids of a second column are marked by its name: session 5 is not shopper 5."""
    nobody = list(mapping.cleaning.anonymous_shopper_ids)
    ids: list[pl.Expr] = []
    for column in columns:
        shopper = clean_text(column, mapping.missing_values)
        known = pl.when(shopper.is_in(nobody).not_()).then(shopper)
        ids.append(known if not ids else pl.lit(f"{column}:") + known)
    return pl.coalesce(ids)


def _event_time(rows: pl.LazyFrame, source: Source, mapping: Mapping) -> pl.Expr:
    names = source.columns.event_time
    if not names:
        return pl.col(ROW)
    dtype = rows.collect_schema()[raw_name(names[0])]
    if len(names) == 1 and dtype.is_temporal():
        return temporal_seconds(pl.col(raw_name(names[0])), dtype, source.time.timezone)
    texts = [clean_text(name, mapping.missing_values) for name in names]
    joined = texts[0] if len(texts) == 1 else pl.concat_str(texts, separator=" ")
    return unix_seconds(joined, source.time)


def _marked(events: pl.LazyFrame, mapping: Mapping, now: int) -> pl.LazyFrame:
    cleaning = mapping.cleaning
    quantity = amount(pl.col("quantity_text"))
    counted = pl.col("event_type").is_in(sorted(QUANTITY_EVENT_TYPES))
    # A log that writes 0 does not know the quantity; nothing was bought zero times.
    readable = (quantity.is_finite() & (quantity >= 0) & (quantity <= MAX_QUANTITY)).fill_null(
        False
    )
    written = pl.col("quantity_text").is_not_null()
    latest = now if cleaning.latest is None else cleaning.latest
    in_range = pl.col("event_time").is_between(cleaning.earliest, latest)
    out_of_range = pl.lit(False) if mapping.ordered else ~in_range
    problems: list[tuple[pl.Expr, str]] = [
        (pl.col(MALFORMED), MALFORMED_LINE),
        (pl.col("shopper_id").is_null(), MISSING_SHOPPER),
        (pl.col("event_time").is_null(), UNREADABLE_TIME),
        (out_of_range, TIME_OUT_OF_RANGE),
        (pl.col("event_type").is_null(), UNKNOWN_EVENT_TYPE),
        (pl.col("event_type") == IGNORE, IGNORED_EVENT_TYPE),
        (
            pl.col("event_type").is_in(sorted(PRODUCT_EVENT_TYPES))
            & pl.col("product_id").is_null(),
            MISSING_PRODUCT,
        ),
        (counted & written & ~readable, INVALID_QUANTITY),
    ]
    reason = pl.coalesce([pl.when(bad).then(pl.lit(why)) for bad, why in problems])
    units = quantity.clip(1, MAX_QUANTITY).fill_null(1).round().cast(pl.Int32, strict=False)
    about_product = pl.col("event_type").is_in(sorted(PRODUCT_EVENT_TYPES))
    return events.with_columns(
        reason.alias("reason"),
        pl.when(counted).then(units).otherwise(0).cast(pl.Int32).alias("quantity"),
        pl.when(about_product).then("product_id").fill_null("").alias("product_id"),
        pl.when(pl.col("event_type") == "view-category")
        .then("category")
        .fill_null("")
        .alias("category"),
        pl.when(pl.col("event_type") == "search")
        .then("search_query")
        .fill_null("")
        .alias("search_query"),
    )
