"""Short ways to write down what a visitor did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypedDict, Unpack

from google.protobuf.timestamp_pb2 import Timestamp

from shopintent.v1.user_event_pb2 import (
    EVENT_TYPE_ADD_TO_CART,
    EVENT_TYPE_FAVORITE,
    EVENT_TYPE_IMPRESSION,
    EVENT_TYPE_PURCHASE,
    EVENT_TYPE_REMOVE_FROM_CART,
    EVENT_TYPE_SEARCH,
    EVENT_TYPE_VIEW_CATEGORY,
    EVENT_TYPE_VIEW_PRODUCT,
    UserEvent,
)


class Details(TypedDict, total=False):
    """What every event may carry; see UserEvent."""

    event_time: datetime
    """With a time zone. Default: when the server receives it."""
    event_id: str
    attribution_token: str
    """Of the answer that led to the event."""
    experiment_ids: Sequence[str]
    """What the visitor was part of, such as "checkout-7/b"."""


def view_product(product_id: str, **details: Unpack[Details]) -> UserEvent:
    """The visitor opened the page of a product."""
    return _complete(UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=product_id), details)


def view_category(category: str, **details: Unpack[Details]) -> UserEvent:
    """The visitor opened the page of a category, a path such as "Shoes > Running"."""
    return _complete(UserEvent(event_type=EVENT_TYPE_VIEW_CATEGORY, category=category), details)


def search(search_query: str, **details: Unpack[Details]) -> UserEvent:
    """The visitor searched."""
    return _complete(UserEvent(event_type=EVENT_TYPE_SEARCH, search_query=search_query), details)


def favorite(product_id: str, **details: Unpack[Details]) -> UserEvent:
    """The visitor marked a product as a favorite."""
    return _complete(UserEvent(event_type=EVENT_TYPE_FAVORITE, product_id=product_id), details)


def add_to_cart(product_id: str, quantity: int = 1, **details: Unpack[Details]) -> UserEvent:
    """The visitor put a product into the cart."""
    event = UserEvent(event_type=EVENT_TYPE_ADD_TO_CART, product_id=product_id, quantity=quantity)
    return _complete(event, details)


def remove_from_cart(product_id: str, quantity: int = 1, **details: Unpack[Details]) -> UserEvent:
    """The visitor took a product out of the cart."""
    event = UserEvent(
        event_type=EVENT_TYPE_REMOVE_FROM_CART, product_id=product_id, quantity=quantity
    )
    return _complete(event, details)


def purchase(product_id: str, quantity: int = 1, **details: Unpack[Details]) -> UserEvent:
    """The visitor bought a product; an order of three products is three events."""
    event = UserEvent(event_type=EVENT_TYPE_PURCHASE, product_id=product_id, quantity=quantity)
    return _complete(event, details)


def impression(product_ids: Iterable[str], **details: Unpack[Details]) -> UserEvent:
    """The visitor was shown products, in this order; say of which answer they are."""
    event = UserEvent(event_type=EVENT_TYPE_IMPRESSION, shown_product_ids=product_ids)
    return _complete(event, details)


def _complete(event: UserEvent, details: Details) -> UserEvent:
    event.event_id = details.get("event_id", "")
    event.attribution_token = details.get("attribution_token", "")
    event.experiment_ids.extend(details.get("experiment_ids", ()))
    if (event_time := details.get("event_time")) is not None:
        event.event_time.CopyFrom(_timestamp(event_time))
    return event


def _timestamp(event_time: datetime) -> Timestamp:
    if event_time.tzinfo is None:
        raise ValueError("event_time has no time zone: use datetime.now(UTC) or add tzinfo")
    timestamp = Timestamp()
    timestamp.FromDatetime(event_time)
    return timestamp
