"""Logs that know only the day of an event, or only the order of events."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from shopintent.trainer.data.mapping import Cleaning, Mapping

ORDER_ENDS = 1_577_836_800
"""2020-01-01: where every shopper's last event is put when a log tells only an order."""
HOUR_S = 3_600
COARSE_WARNING = (
    "The log tells the day or hour of an event, not the minute: visits are as coarse, events of "
    "one time keep the order of the log unless columns.order names a better one, the limit of "
    "events a minute is off, and equal events of one time count as duplicates unless "
    'cleaning.duplicates = "keep".'
)
ORDER_WARNING = (
    "The log tells only an order, so times are made up: horizons and times to purchase mean "
    "nothing, and the limits for bots are off."
)


def is_coarse(events: pl.LazyFrame) -> bool:
    """Returns whether all events, in `event_time`, happen at the same minute and second."""
    minutes = events.select((pl.col("event_time") % HOUR_S).unique().len(), pl.len())
    different, n_events = minutes.collect().row(0)
    return bool(different == 1 and n_events > 1)


def cleaning_of(mapping: Mapping, *, coarse: bool) -> Cleaning:
    """Returns the limits that make sense for a log with such times."""
    if mapping.ordered:
        return replace(mapping.cleaning, max_events_per_minute=0, max_events_per_day=0)
    return replace(mapping.cleaning, max_events_per_minute=0) if coarse else mapping.cleaning


def with_times_of_order(events: pl.DataFrame, step_minutes: float) -> pl.DataFrame:
    """Returns whole shoppers' events whose `event_time` was an order, as times.

    Each step takes step_minutes, whatever the numbers between, and the last is at ORDER_ENDS.
    """
    step = pl.col("event_time").rank("dense").over("shopper_id").cast(pl.Int64)
    behind = step.max().over("shopper_id") - step
    return events.with_columns(event_time=ORDER_ENDS - behind * round(step_minutes * 60))
