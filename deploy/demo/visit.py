"""Which visit the demo plays: a real one of the log, from the time the model never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

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
from shopintent.v1.user_event_pb2 import UserEvent

MAX_EVENTS = 10

REQUESTS: dict[str, Callable[[Event, datetime], UserEvent]] = {
    VIEW_PRODUCT: lambda event, time: events.view_product(event.product_id, event_time=time),
    VIEW_CATEGORY: lambda event, time: events.view_category(event.category, event_time=time),
    SEARCH: lambda event, time: events.search(event.search_query, event_time=time),
    FAVORITE: lambda event, time: events.favorite(event.product_id, event_time=time),
    ADD_TO_CART: lambda event, time: events.add_to_cart(event.product_id, event_time=time),
    REMOVE_FROM_CART: lambda event, time: events.remove_from_cart(
        event.product_id, event_time=time
    ),
    PURCHASE: lambda event, time: events.purchase(event.product_id, event_time=time),
}


@dataclass(frozen=True)
class Visit:
    """One visit of the log."""

    shopper_id: str
    events: tuple[Event, ...]
    held_out: bool
    """Whether it began after the time that training saw."""


def choose_visit(log: pl.LazyFrame, *, cut_time: int) -> Visit:
    """Returns the visit of a prepared log to play; always the same one for the same log.

    Preferred is one that began at `cut_time` (unix seconds) or later, ends in the purchase of a
    product seen before in the visit, is short, and shows many kinds of event and many products,
    in this order.
    """
    best = rank_visits(log, cut_time).head(1).collect().row(0, named=True)
    visit = log.filter(pl.col("session_id") == best["session_id"]).head(best["n_played"])
    played = tuple(
        Event(
            event_type=row["event_type"],
            event_time=row["event_time"],
            product_id=row["product_id"] or "",
            category=row["category"] or "",
            search_query=row["search_query"] or "",
        )
        for row in visit.tail(MAX_EVENTS).collect().iter_rows(named=True)
    )
    return Visit(best["shopper_id"], played, bool(best["held_out"]))


def rank_visits(log: pl.LazyFrame, cut_time: int) -> pl.LazyFrame:
    """Returns one row a visit, the best to play first."""
    bought = pl.col("event_type") == PURCHASE
    product = pl.col("product_id")
    # A visit is played up to its first purchase.
    n_played = pl.when(bought.any()).then(bought.arg_max() + 1).otherwise(pl.len())
    return (
        log.group_by("session_id")
        .agg(
            pl.col("shopper_id").first(),
            (pl.col("event_time").min() >= cut_time).alias("held_out"),
            (product.filter(~bought) == product.filter(bought).first()).any().alias("buys_seen"),
            n_played.alias("n_played"),
            pl.col("event_type").n_unique().alias("n_kinds"),
            product.n_unique().alias("n_products"),
        )
        .with_columns(pl.col("n_played").is_between(5, MAX_EVENTS).alias("short"))
        .sort(
            ["held_out", "buys_seen", "short", "n_kinds", "n_products", "session_id"],
            descending=[True, True, True, True, True, False],
        )
    )


def retimed(behavior: Sequence[Event], now: datetime) -> list[UserEvent]:
    """Returns the events as a shop would have sent them if the last one happened now.

    The time between them stays: the model reads the rhythm of a visit, too.
    """
    last = behavior[-1].event_time
    return [
        REQUESTS[event.event_type](event, now - timedelta(seconds=last - event.event_time))
        for event in behavior
    ]
