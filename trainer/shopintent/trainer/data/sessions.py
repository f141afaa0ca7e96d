"""Cuts each shopper's events into visits and says how each visit ended."""

from __future__ import annotations

import polars as pl

from shopintent.behavior.events import (
    ADD_TO_CART,
    FAVORITE,
    PURCHASE,
    SEARCH,
    VIEW_CATEGORY,
    VIEW_PRODUCT,
)
from shopintent.trainer.data.mapping import Session

OUTCOMES = ("purchase", "click", "search", "browse")


def with_session_ids(events: pl.DataFrame, session: Session, first_id: int) -> pl.DataFrame:
    """Returns events, sorted by shopper and time, with dense session ids from first_id on.

    By gap: a pause longer than gap_minutes starts a session. By column: another session number
    than the event before starts one; events without a number follow the gap rule.
    """
    new_shopper = pl.col("shopper_id").ne_missing(pl.col("shopper_id").shift(1))
    pause = (pl.col("event_time").diff() > round(session.gap_minutes * 60)).fill_null(True)
    if session.rule == "column":
        raw = pl.col("raw_session")
        unnumbered = raw.is_null() & raw.shift(1).is_null()
        starts = pl.when(unnumbered).then(pause).otherwise(raw.ne_missing(raw.shift(1)))
    else:
        starts = pause
    number = (new_shopper | starts).cum_sum().cast(pl.UInt32) + (first_id - 1)
    return events.with_columns(number.cast(pl.UInt32).alias("session_id"))


def sessions_of(events: pl.DataFrame) -> pl.DataFrame:
    """Returns one row a session, in order of session_id.

    The outcome is the first that holds: "purchase" when something was bought; "click" when a
    product was put in the cart or among the favorites, or viewed after a search or a category
    page; "search" when something was searched; "browse" otherwise.
    """
    kind = pl.col("event_type")
    looked_for = kind.is_in([SEARCH, VIEW_CATEGORY])
    clicked = kind.is_in([ADD_TO_CART, FAVORITE]) | ((kind == VIEW_PRODUCT) & pl.col("led"))
    return (
        events.with_columns(looked_for.cum_max().over("session_id").alias("led"))
        .group_by("session_id", maintain_order=True)
        .agg(
            pl.col("shopper_id").first(),
            pl.col("event_time").min().alias("start_time"),
            pl.col("event_time").max().alias("end_time"),
            pl.len().cast(pl.UInt32).alias("n_events"),
            pl.when((kind == PURCHASE).any())
            .then(pl.lit("purchase"))
            .when(clicked.any())
            .then(pl.lit("click"))
            .when((kind == SEARCH).any())
            .then(pl.lit("search"))
            .otherwise(pl.lit("browse"))
            .alias("outcome"),
        )
    )
