"""What came after each event: the next action in the visit and the shopper's next purchase."""

from __future__ import annotations

import polars as pl

from shopintent.behavior.events import LEAVE, PURCHASE


def with_labels(events: pl.DataFrame) -> pl.DataFrame:
    """Returns events, sorted by shopper and time with session ids, with both labels.

    next_action is the type of the next event of the session, or "leave". next_purchase_time is
    that of the shopper's next purchase after this event in order, null when none came before the
    log ended.
    """
    purchase_time = pl.when(pl.col("event_type") == PURCHASE).then("event_time")
    return events.with_columns(
        pl.col("event_type").shift(-1).over("session_id").fill_null(LEAVE).alias("next_action"),
        purchase_time.shift(-1)
        .fill_null(strategy="backward")
        .over("shopper_id")
        .alias("next_purchase_time"),
    )
