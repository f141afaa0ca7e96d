"""Drops what only shows among other events: repeats of an event, and shoppers that are bots."""

from __future__ import annotations

import polars as pl

from shopintent.behavior.events import PURCHASE
from shopintent.trainer.data.mapping import Cleaning

SAME_EVENT = (
    "shopper_id",
    "event_time",
    "order",
    "event_type",
    "product_id",
    "category",
    "search_query",
    "quantity",
)
DAY_S = 86_400
MINUTE_S = 60


def without_duplicates(events: pl.DataFrame, cleaning: Cleaning) -> pl.DataFrame:
    """Returns the first of events that are equal in every field, whichever source wrote them."""
    if cleaning.duplicates == "keep":
        return events
    return events.unique(SAME_EVENT, keep="first", maintain_order=True)


def bots_among(events: pl.DataFrame, cleaning: Cleaning) -> pl.DataFrame:
    """Returns the ids of shoppers faster than people are, as one column shopper_id.

    Purchases do not count: the lines of one order come all at once.
    """
    bots = events.select("shopper_id").clear()
    events = events.filter(pl.col("event_type") != PURCHASE)
    if cleaning.max_events_per_day:
        per_day = events.group_by("shopper_id", pl.col("event_time") // DAY_S).len()
        busy = per_day.filter(pl.col("len") > cleaning.max_events_per_day)
        bots = pl.concat([bots, busy.select("shopper_id")])
    if cleaning.max_events_per_minute:
        per_minute = events.group_by("shopper_id", pl.col("event_time") // MINUTE_S).len()
        fast = per_minute.filter(pl.col("len") > cleaning.max_events_per_minute)
        sustained = fast.group_by("shopper_id").len().filter(pl.col("len") >= cleaning.bot_minutes)
        bots = pl.concat([bots, sustained.select("shopper_id")])
    return bots.unique()
