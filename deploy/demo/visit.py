"""Which visit the demo plays: a real one of the log, from the time the model never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from shopintent.behavior import Event
from shopintent.behavior.events import (
    ADD_TO_CART,
    FAVORITE,
    PURCHASE,
    REMOVE_FROM_CART,
    SEARCH,
    VIEW_CATEGORY,
    VIEW_PRODUCT,
)
from shopintent.client import events
from shopintent.trainer.data import Dataset
from shopintent.v1.user_event_pb2 import UserEvent

MAX_EVENTS = 10

REQUESTS: dict[str, Callable[[Event], UserEvent]] = {
    VIEW_PRODUCT: lambda event: events.view_product(event.product_id),
    VIEW_CATEGORY: lambda event: events.view_category(event.category),
    SEARCH: lambda event: events.search(event.search_query),
    FAVORITE: lambda event: events.favorite(event.product_id),
    ADD_TO_CART: lambda event: events.add_to_cart(event.product_id),
    REMOVE_FROM_CART: lambda event: events.remove_from_cart(event.product_id),
    PURCHASE: lambda event: events.purchase(event.product_id),
}


@dataclass(frozen=True)
class Visit:
    """One visit of the log."""

    shopper_id: str
    events: tuple[Event, ...]
    held_out: bool
    """Whether it began after the time that training saw."""


def choose_visit(dataset: Dataset, *, cut_time: int) -> Visit:
    """Returns the visit to play; always the same one for the same log.

    Preferred is one that began at `cut_time` (unix seconds) or later, ends in a purchase after at
    least three other events, is short, and shows many kinds of event, in this order.
    """
    best = rank_visits(dataset, cut_time).collect().row(0, named=True)
    rows = (
        dataset.events()
        .filter(pl.col("session_id") == best["session_id"])
        .head(best["n_played"])
        .tail(MAX_EVENTS)
        .collect()
        .iter_rows(named=True)
    )
    played = tuple(
        Event(
            event_type=row["event_type"],
            event_time=row["event_time"],
            product_id=row["product_id"] or "",
            category=row["category"] or "",
            search_query=row["search_query"] or "",
        )
        for row in rows
    )
    return Visit(best["shopper_id"], played, bool(best["held_out"]))


def rank_visits(dataset: Dataset, cut_time: int) -> pl.LazyFrame:
    """Returns one row a visit, the best to play first."""
    bought = pl.col("event_type") == PURCHASE
    return (
        dataset.events()
        .group_by("session_id")
        .agg(
            pl.col("shopper_id").first(),
            (pl.col("event_time").min() >= cut_time).alias("held_out"),
            bought.any().alias("buys"),
            # A visit is played up to its first purchase.
            pl.when(bought.any()).then(bought.arg_max() + 1).otherwise(pl.len()).alias("n_played"),
            pl.col("event_type").n_unique().alias("n_kinds"),
        )
        .with_columns(
            (pl.col("buys") & (pl.col("n_played") > 3)).alias("buys"),
            pl.col("n_played").is_between(4, MAX_EVENTS).alias("short"),
        )
        .sort(
            ["held_out", "buys", "short", "n_kinds", "session_id"],
            descending=[True, True, True, True, False],
        )
        .head(1)
    )


def to_request(event: Event) -> UserEvent:
    """Returns the event as a shop would send it now; the server sets its time."""
    return REQUESTS[event.event_type](event)
