"""Between the messages of the protos and the server's own types. Requests are valid by then."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal

from google.protobuf import duration_pb2
from google.type import money_pb2

from shopintent.artifacts.event_log import IMPRESSION
from shopintent.behavior import PRODUCT_EVENT_TYPES, Event, Product, events
from shopintent.server.catalog import PRODUCT_FIELDS
from shopintent.server.hydrate import Degraded
from shopintent.server.index import ProductFilter
from shopintent.server.sessions import TrackedEvent
from shopintent.v1 import product_pb2, recommendation_service_pb2, user_event_pb2

EVENT_NAMES = {
    user_event_pb2.EVENT_TYPE_VIEW_PRODUCT: events.VIEW_PRODUCT,
    user_event_pb2.EVENT_TYPE_VIEW_CATEGORY: events.VIEW_CATEGORY,
    user_event_pb2.EVENT_TYPE_SEARCH: events.SEARCH,
    user_event_pb2.EVENT_TYPE_FAVORITE: events.FAVORITE,
    user_event_pb2.EVENT_TYPE_ADD_TO_CART: events.ADD_TO_CART,
    user_event_pb2.EVENT_TYPE_REMOVE_FROM_CART: events.REMOVE_FROM_CART,
    user_event_pb2.EVENT_TYPE_PURCHASE: events.PURCHASE,
    user_event_pb2.EVENT_TYPE_IMPRESSION: IMPRESSION,
}

PRODUCT_PATHS = {
    "title": ("title",),
    "description": ("description",),
    "brand": ("brand",),
    "categories": ("categories",),
    "price": ("price", "currency"),
    "availability": ("in_stock",),
}
"""What each path of an update mask writes."""

DEGRADED_REASONS = {
    Degraded.MODEL_UNAVAILABLE: recommendation_service_pb2.DEGRADED_REASON_MODEL_UNAVAILABLE,
    Degraded.INDEX_UNAVAILABLE: recommendation_service_pb2.DEGRADED_REASON_INDEX_UNAVAILABLE,
    Degraded.TEXT_ENCODER_UNAVAILABLE: (
        recommendation_service_pb2.DEGRADED_REASON_TEXT_ENCODER_UNAVAILABLE
    ),
    Degraded.BEHAVIOR_UNAVAILABLE: recommendation_service_pb2.DEGRADED_REASON_BEHAVIOR_UNAVAILABLE,
    Degraded.INTENT_UNAVAILABLE: recommendation_service_pb2.DEGRADED_REASON_INTENT_UNAVAILABLE,
}

EVERYTHING = ProductFilter()
"""Of all products in stock."""

_NANO = Decimal("1e-9")


def visitor_key(visitor: user_event_pb2.Visitor) -> str:
    """Returns the key that the visitor's events are kept under; empty for nobody.

    The prefix keeps a shopper, a visitor and a session of the same name apart.
    """
    if visitor.user_id:
        return f"user:{visitor.user_id}"
    return anonymous_key(visitor)


def anonymous_key(visitor: user_event_pb2.Visitor) -> str:
    """Returns the key of whoever it is when they are not logged in; empty when that is unknown."""
    if visitor.visitor_id:
        return f"visitor:{visitor.visitor_id}"
    return f"session:{visitor.session_id}" if visitor.session_id else ""


def alias_key(visitor: user_event_pb2.Visitor) -> str:
    """Returns the anonymous key of a shopper who is known; empty where there are not both."""
    return anonymous_key(visitor) if visitor.user_id else ""


def every_key(visitor: user_event_pb2.Visitor) -> list[str]:
    """Returns a key for each id of the visitor."""
    ids = {"user": visitor.user_id, "visitor": visitor.visitor_id, "session": visitor.session_id}
    return [f"{kind}:{name}" for kind, name in ids.items() if name]


def tracked_event(message: user_event_pb2.UserEvent, *, received_at: int) -> TrackedEvent:
    """Returns the event as it is recorded, with what led to it."""
    event = event_from_proto(message, received_at=received_at)
    shown = message.shown_product_ids if event.event_type == IMPRESSION else ()
    return TrackedEvent(
        event=event,
        event_id=message.event_id,
        attribution_token=message.attribution_token,
        experiment_ids=tuple(message.experiment_ids),
        shown_product_ids=tuple(shown),
    )


def behavior_events(
    messages: Iterable[user_event_pb2.UserEvent], *, received_at: int
) -> list[Event]:
    """Returns the events that predictions read: an impression is nothing that was done."""
    return [
        event_from_proto(message, received_at=received_at)
        for message in messages
        if message.event_type != user_event_pb2.EVENT_TYPE_IMPRESSION
    ]


def event_from_proto(message: user_event_pb2.UserEvent, *, received_at: int) -> Event:
    """Returns the event; only the fields that belong to its type are kept."""
    event_type = EVENT_NAMES[message.event_type]
    return Event(
        event_type=event_type,
        event_time=message.event_time.seconds if message.HasField("event_time") else received_at,
        product_id=message.product_id if event_type in PRODUCT_EVENT_TYPES else "",
        category=message.category if event_type == events.VIEW_CATEGORY else "",
        search_query=message.search_query if event_type == events.SEARCH else "",
        quantity=units(message) if event_type in events.QUANTITY_EVENT_TYPES else 0,
    )


def units(message: user_event_pb2.UserEvent) -> int:
    """Returns how many units the event is about; 1 where it does not say."""
    quantity: int = message.quantity
    return quantity if message.HasField("quantity") else 1


def product_from_proto(message: product_pb2.Product) -> Product:
    """Returns the product; fields left unset are unknown, and it is in stock by default."""
    priced = message.HasField("price")
    return Product(
        product_id=message.id,
        title=message.title,
        description=message.description,
        brand=message.brand,
        categories=tuple(message.categories),
        price=_price_from_money(message.price) if priced else None,
        currency=message.price.currency_code if priced else "",
        in_stock=message.availability != product_pb2.AVAILABILITY_OUT_OF_STOCK,
    )


def product_to_proto(product: Product, view: int) -> product_pb2.Product:
    """Returns as much of the product as the ProductView asks for."""
    if view != product_pb2.PRODUCT_VIEW_FULL:
        return product_pb2.Product(id=product.product_id)
    return product_pb2.Product(
        id=product.product_id,
        title=product.title,
        description=product.description,
        brand=product.brand,
        categories=product.categories,
        price=None if product.price is None else _money(product.price, product.currency),
        availability=(
            product_pb2.AVAILABILITY_IN_STOCK
            if product.in_stock
            else product_pb2.AVAILABILITY_OUT_OF_STOCK
        ),
    )


def written_fields(paths: Iterable[str]) -> frozenset[str]:
    """Returns the fields of Product that an update mask names; all of them when it is empty."""
    return frozenset(name for path in paths for name in PRODUCT_PATHS[path]) or PRODUCT_FIELDS


def filter_from_proto(message: recommendation_service_pb2.ProductFilter) -> ProductFilter:
    """Returns the filter; what the visitor has seen is excluded elsewhere."""
    if not message.ByteSize():
        return EVERYTHING
    return ProductFilter(
        categories=tuple(message.categories),
        excluded_product_ids=frozenset(message.excluded_product_ids),
        minimum_price=message.minimum_price if message.HasField("minimum_price") else None,
        maximum_price=message.maximum_price if message.HasField("maximum_price") else None,
        out_of_stock_included=message.out_of_stock_included,
    )


def duration(seconds: float | None) -> duration_pb2.Duration | None:
    """Returns the duration to the millisecond, which is more than any prediction knows."""
    if seconds is None:
        return None
    whole, milliseconds = divmod(round(seconds * 1_000), 1_000)
    return duration_pb2.Duration(seconds=whole, nanos=milliseconds * 1_000_000)


def degraded_reasons(
    degraded: frozenset[Degraded],
) -> list[recommendation_service_pb2.DegradedReason]:
    """Returns the reasons in the order of their numbers."""
    if not degraded:
        return []
    return sorted(DEGRADED_REASONS[reason] for reason in degraded)


def attribution_token(release_id: str, request_id: str) -> str:
    """Returns the opaque token of an answer: which release gave it, to which request.

    Base64 of "<release id>/<request id>": at most 63 + 1 + 64 bytes, so at most 172 characters.
    """
    return base64.urlsafe_b64encode(f"{release_id}/{request_id}".encode()).decode().rstrip("=")


def _price_from_money(money: money_pb2.Money) -> Decimal:
    if not money.nanos:
        return Decimal(money.units)
    nanos: int = money.nanos
    return (Decimal(money.units) + nanos * _NANO).normalize()


def _money(price: Decimal, currency: str) -> money_pb2.Money:
    nanos = int((price / _NANO).to_integral_value(ROUND_HALF_EVEN))
    units, rest = divmod(nanos, 10**9)
    return money_pb2.Money(units=units, nanos=rest, currency_code=currency)
