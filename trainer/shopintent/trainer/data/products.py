"""The products of a log: what its events say of them, and what a catalog file says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from shopintent.behavior import Product
from shopintent.trainer.data.clean import (
    ATTRIBUTES,
    attribute_columns,
    attribute_values,
    clean_text,
)
from shopintent.trainer.data.columns import MALFORMED, raw_name
from shopintent.trainer.data.joins import columns_to_read, load_joins, with_joins
from shopintent.trainer.data.mapping import Catalog, Mapping, Properties
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.data.read import PrepareError, read_log

PRODUCT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "product_id": pl.String,
    "title": pl.String,
    "description": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "price": pl.String,
    "currency": pl.String,
    "in_stock": pl.Boolean,
    "n_events": pl.UInt32,
    "first_seen_time": pl.Int64,
    "last_seen_time": pl.Int64,
}
SEEN = ("n_events", "first_seen_time", "last_seen_time")
"""What the log itself knows of a product."""


def products_in_events(events: pl.DataFrame) -> pl.DataFrame:
    """Returns one row a product: its latest known attributes and when it was seen."""
    seen = events.filter(pl.col("product_id") != "").sort("event_time", maintain_order=True)
    return seen.group_by("product_id", maintain_order=True).agg(
        *(pl.col(name).drop_nulls().last() for name in ATTRIBUTES),
        pl.len().cast(pl.UInt32).alias("n_events"),
        pl.col("event_time").min().alias("first_seen_time"),
        pl.col("event_time").max().alias("last_seen_time"),
    )


def merge_products(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Returns the products of all parts, the attributes of the part that saw them last first."""
    return (
        pl.concat(parts)
        .sort("last_seen_time", maintain_order=True)
        .group_by("product_id", maintain_order=True)
        .agg(
            *(pl.col(name).drop_nulls().last() for name in ATTRIBUTES),
            pl.col("n_events").sum().cast(pl.UInt32),
            pl.col("first_seen_time").min(),
            pl.col("last_seen_time").max(),
        )
    )


def read_catalog(
    root: Path, catalog: Catalog, mapping: Mapping, progress: Progress
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Returns product_id and ATTRIBUTES of the catalog's files, and counts of what was wrong."""
    paths = sorted({path for glob in catalog.files for path in root.glob(glob) if path.is_file()})
    if not paths:
        raise PrepareError(
            f"{root / catalog.files[0]}: there is no such file; correct catalog.file in "
            f"{mapping.origin} or remove it."
        )
    rows, invalid_lines = _catalog_rows(root, paths, catalog, mapping, progress)
    usable = rows.filter(~pl.col(MALFORMED) & pl.col("product_id").is_not_null())
    products = usable.unique("product_id", keep="last", maintain_order=True)
    problems = {
        "catalog rows without a product id or with a wrong number of fields": len(rows)
        - len(usable),
        "catalog rows that repeat a product (the last one counts)": len(usable) - len(products),
        "catalog prices that are no price": int(usable["invalid_price"].sum()),
        "catalog lines with invalid UTF-8": invalid_lines,
    }
    if products.is_empty():
        raise PrepareError(
            f'{paths[0]}: holds no usable product; check column "{catalog.product_id}".'
        )
    return products.select("product_id", *ATTRIBUTES), problems


def _catalog_rows(
    root: Path, paths: list[Path], catalog: Catalog, mapping: Mapping, progress: Progress
) -> tuple[pl.DataFrame, int]:
    """Returns one row a product, with MALFORMED and `invalid_price`; and lines with bad bytes."""
    missing = mapping.missing_values
    named = list(dict.fromkeys([catalog.product_id, *attribute_columns(catalog.attributes)]))
    long = catalog.properties
    wanted = columns_to_read(named, catalog.joins)
    if long is not None:
        named = wanted
        wanted = [each for each in (catalog.product_id, long.name, long.value, long.time) if each]
    rows, invalid_lines = [], 0
    for path in paths:
        for batch in read_log(path, catalog.file_format, wanted, progress):
            part = batch.rows
            rows.append((_of_properties(part, named, long) if long else part).collect())
            invalid_lines += batch.invalid_utf8_lines
    frame = pl.concat(rows)
    if long is not None:
        frame = wide(frame, catalog.product_id, named, long)
    joined = with_joins(
        frame.lazy(), load_joins(root, catalog.joins, missing, progress), missing
    ).select(
        MALFORMED,
        clean_text(catalog.product_id, missing).alias("product_id"),
        *attribute_values(catalog.attributes, missing, mapping.cleaning.max_price),
    )
    return joined.collect(), invalid_lines


def _of_properties(
    rows: pl.LazyFrame, named: Sequence[str], properties: Properties
) -> pl.LazyFrame:
    """Most rows of a catalog in long form are about properties that nobody asked for."""
    return rows.filter(pl.col(raw_name(properties.name)).is_in(list(named)))


def wide(
    rows: pl.DataFrame, product_id: str, named: Sequence[str], properties: Properties
) -> pl.DataFrame:
    """Returns one row a product, its latest properties in columns of their names."""
    if properties.time is not None:
        moment = pl.col(raw_name(properties.time))
        rows = rows.sort(moment.cast(pl.Float64, strict=False), moment, maintain_order=True)
    value, name = pl.col(raw_name(properties.value)), pl.col(raw_name(properties.name))
    return rows.group_by(raw_name(product_id), maintain_order=True).agg(
        pl.lit(False).alias(MALFORMED),
        *(
            value.filter(name == each).last().alias(raw_name(each))
            for each in named
            if each != product_id
        ),
    )


def with_catalog(seen: pl.DataFrame, catalog: pl.DataFrame | None) -> pl.DataFrame:
    """Returns the products seen or in the catalog, whose attributes go first."""
    if catalog is None:
        return seen
    joined = catalog.join(seen, on="product_id", how="full", coalesce=True, suffix="_seen")
    return joined.select(
        "product_id",
        *(pl.coalesce(name, f"{name}_seen").alias(name) for name in ATTRIBUTES),
        pl.col("n_events").fill_null(0),
        "first_seen_time",
        "last_seen_time",
    )


def final_products(products: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Returns the table that is written, sorted by product_id, and how many prices were dropped.

    One currency a catalog: prices in any other than the most frequent one become unknown.
    """
    products, n_foreign = in_one_currency(products)
    table = products.with_columns(pl.col("price").round(4).cast(pl.String)).select(
        "product_id",
        pl.col("title", "description", "brand").fill_null(""),
        pl.when(pl.col("product_category").is_null())
        .then(pl.lit([], pl.List(pl.String)))
        .otherwise(pl.concat_list("product_category"))
        .alias("categories"),
        "price",
        "currency",
        pl.col("in_stock").fill_null(True),
        *SEEN,
    )
    return table.cast(PRODUCT_SCHEMA).sort("product_id"), n_foreign  # type: ignore[arg-type]


def in_one_currency(products: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Returns the products without prices in any but the most frequent currency; and how many.

    `currency` becomes empty where there is no price.
    """
    currencies = (
        products.filter(pl.col("price").is_not_null())["currency"]
        .fill_null("")
        .value_counts()
        .sort(["count", "currency"], descending=[True, False])
    )
    main = currencies["currency"][0] if len(currencies) else ""
    foreign = pl.col("price").is_not_null() & (pl.col("currency").fill_null("") != main)
    n_foreign = int(products.select(foreign.sum()).item())
    known = pl.col("price").is_not_null() & ~foreign
    return products.with_columns(
        pl.when(known).then("price").alias("price"),
        pl.when(known).then(pl.lit(main)).otherwise(pl.lit("")).alias("currency"),
    ), n_foreign


def known_products(products: Iterable[Product]) -> pl.DataFrame:
    """Returns products as a table, PRODUCT_SCHEMA, of which no event is known."""
    rows = [
        {
            "product_id": each.product_id,
            "title": each.title,
            "description": each.description,
            "brand": each.brand,
            "categories": list(each.categories),
            "price": None if each.price is None else str(each.price),
            "currency": each.currency,
            "in_stock": each.in_stock,
            "n_events": 0,
        }
        for each in products
    ]
    return pl.DataFrame(rows, PRODUCT_SCHEMA)


def with_known(seen: pl.DataFrame, known: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, int]:
    """Returns the products seen and those of tables, PRODUCT_SCHEMA, of which the first counts.

    What a table says of a product goes before what was seen; also how many prices were dropped.
    """
    tables = pl.concat([*known, seen])
    products = tables.unique("product_id", keep="first", maintain_order=True).drop(SEEN)
    counted = products.join(seen.select("product_id", *SEEN), on="product_id", how="left")
    table, n_foreign = in_one_currency(counted.with_columns(pl.col("n_events").fill_null(0)))
    return table.select(list(PRODUCT_SCHEMA)).sort("product_id"), n_foreign
