"""What the comments of the protos promise about bad requests, field by field.

Every check of a request runs, so that the caller learns of every bad field at once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from google.type import money_pb2

from shopintent.behavior.products import CATEGORY_SEPARATOR
from shopintent.server.errors import FieldViolation, InvalidRequest
from shopintent.server.services.consistency_token import position_of
from shopintent.server.services.convert import PRODUCT_PATHS, every_key
from shopintent.v1 import (
    catalog_service_pb2,
    event_service_pb2,
    product_pb2,
    recommendation_service_pb2,
    user_event_pb2,
    visitor_service_pb2,
)

MAX_ID = 128
MAX_TEXT = 1_000
MAX_DESCRIPTION = 5_000
MAX_BRAND = 200
MAX_TOKEN = 200
MAX_RECENT_EVENTS = 200
MAX_TRACKED_EVENTS = 100
MAX_SHOWN = 100
MAX_EXPERIMENTS = 10
MAX_PRODUCTS = 1_000
MAX_PRODUCT_CATEGORIES = 20
MAX_FILTER_CATEGORIES = 100
MAX_EXCLUDED = 1_000
MAX_QUANTITY = 1_000_000
MAX_UNITS = 1_000_000_000_000
MAX_NANOS = 999_999_999
EARLIEST_EVENT = 946_684_800
"""2000-01-01 in unix seconds."""
CLOCK_SKEW_S = 300

PLACEMENT = re.compile(r"[a-z0-9-]{1,64}")
CURRENCY = re.compile(r"[A-Z]{3}")

_CATEGORY_EVENT = user_event_pb2.EVENT_TYPE_VIEW_CATEGORY
_SEARCH_EVENT = user_event_pb2.EVENT_TYPE_SEARCH
_IMPRESSION = user_event_pb2.EVENT_TYPE_IMPRESSION
# An enum makes the list of its values anew whenever it is asked.
_EVENT_TYPES = frozenset(user_event_pb2.EventType.values())
_VIEWS = frozenset(product_pb2.ProductView.values())
_AVAILABILITIES = frozenset(product_pb2.Availability.values())


class Violations:
    """Collects the bad fields of one request."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        """Notes a bad field with its remedy."""
        self._found.append(FieldViolation(field, description))

    def check_length(self, field: str, text: str, maximum: int) -> None:
        """Notes a text of more than `maximum` characters."""
        if len(text) > maximum:
            self.add(field, f"has {len(text)} characters; send at most {maximum}")

    def check_count(self, field: str, count: int, maximum: int, *, minimum: int = 0) -> bool:
        """Notes a list that is too long or too short; returns whether it is neither."""
        if minimum <= count <= maximum:
            return True
        self.add(field, f"has {count} elements; send {minimum} to {maximum}")
        return False

    def raise_if_any(self) -> None:
        """Raises InvalidRequest with everything noted."""
        if self._found:
            raise InvalidRequest(self._found)


def check_predict_intent(
    request: recommendation_service_pb2.PredictIntentRequest, *, now: int
) -> None:
    """Raises InvalidRequest when the request breaks the contract; `now` is in unix seconds."""
    violations = Violations()
    _check_visitor(violations, request.visitor)
    _check_recent_events(violations, request.recent_events, now)
    if request.consistency_token:
        _check_consistency_token(violations, request.consistency_token)
    violations.raise_if_any()


def check_recommend(request: recommendation_service_pb2.RecommendRequest, *, now: int) -> None:
    """Raises InvalidRequest when the request breaks the contract; `now` is in unix seconds."""
    violations = Violations()
    _check_visitor(violations, request.visitor)
    _check_recent_events(violations, request.recent_events, now)
    if request.placement and not PLACEMENT.fullmatch(request.placement):
        violations.add("placement", 'use 1 to 64 characters of a-z, 0-9 and "-", such as "home"')
    if request.page_size < 0:
        violations.add("page_size", "is negative; send 1 to 100, or 0 for the default of 20")
    if request.view not in _VIEWS:
        violations.add("view", f"has no value {request.view}; use one of ProductView")
    if request.HasField("filter"):
        _check_filter(violations, request.filter)
    if request.consistency_token:
        _check_consistency_token(violations, request.consistency_token)
    violations.raise_if_any()


def check_track_events(request: event_service_pb2.TrackEventsRequest, *, now: int) -> None:
    """Raises InvalidRequest when the request breaks the contract; `now` is in unix seconds."""
    violations = Violations()
    _check_somebody(violations, request.visitor)
    _check_tracked_events(violations, request.events, now, minimum=1)
    violations.raise_if_any()


def check_stream_intents(
    request: recommendation_service_pb2.StreamIntentsRequest, *, is_first: bool, now: int
) -> None:
    """Raises InvalidRequest when a request of a stream breaks the contract."""
    violations = Violations()
    if is_first or request.HasField("visitor"):
        _check_somebody(violations, request.visitor)
    _check_tracked_events(violations, request.events, now, minimum=0)
    if request.consistency_token:
        _check_consistency_token(violations, request.consistency_token)
    violations.raise_if_any()


def check_visitor(
    request: visitor_service_pb2.DeleteVisitorRequest | visitor_service_pb2.VerifyDeletionRequest,
) -> None:
    """Raises InvalidRequest unless the request says whom it is about."""
    violations = Violations()
    _check_somebody(violations, request.visitor)
    violations.raise_if_any()


def check_update_products(request: catalog_service_pb2.BatchUpdateProductsRequest) -> None:
    """Raises InvalidRequest when the request breaks the contract."""
    violations = Violations()
    for position, path in enumerate(request.update_mask.paths):
        if path not in PRODUCT_PATHS:
            violations.add(
                f"update_mask.paths[{position}]",
                f"{path[:MAX_ID]!r} can not be written; use {', '.join(PRODUCT_PATHS)}",
            )
    if violations.check_count("products", len(request.products), MAX_PRODUCTS, minimum=1):
        repeated = Counter(product.id for product in request.products)
        for position, product in enumerate(request.products):
            field = f"products[{position}]"
            _check_product(violations, field, product)
            if product.id and repeated[product.id] > 1:
                violations.add(f"{field}.id", "is in the request more than once; send it once")
    violations.raise_if_any()


def check_product_id(product_id: str) -> None:
    """Raises InvalidRequest unless `product_id` is one that a product may have."""
    violations = Violations()
    _check_required_id(violations, "product_id", product_id)
    violations.raise_if_any()


def _check_visitor(violations: Violations, visitor: user_event_pb2.Visitor) -> None:
    violations.check_length("visitor.visitor_id", visitor.visitor_id, MAX_ID)
    violations.check_length("visitor.session_id", visitor.session_id, MAX_ID)
    violations.check_length("visitor.user_id", visitor.user_id, MAX_ID)


def _check_somebody(violations: Violations, visitor: user_event_pb2.Visitor) -> None:
    if not every_key(visitor):
        violations.add("visitor", "set visitor_id, session_id or user_id")
    _check_visitor(violations, visitor)


def _check_consistency_token(violations: Violations, token: str) -> None:
    try:
        position_of(token)
    except ValueError:
        what = "is no token of this server; send one that a response about the visitor held"
        violations.add("consistency_token", what)


def _check_tracked_events(
    violations: Violations, events: Sequence[user_event_pb2.UserEvent], now: int, *, minimum: int
) -> None:
    if violations.check_count("events", len(events), MAX_TRACKED_EVENTS, minimum=minimum):
        for position, event in enumerate(events):
            _check_event(violations, f"events[{position}]", event, now)


def _check_recent_events(
    violations: Violations, events: Sequence[user_event_pb2.UserEvent], now: int
) -> None:
    if violations.check_count("recent_events", len(events), MAX_RECENT_EVENTS):
        for position, event in enumerate(events):
            _check_event(violations, f"recent_events[{position}]", event, now)


def _check_event(
    violations: Violations, path: str, event: user_event_pb2.UserEvent, now: int
) -> None:
    violations.check_length(f"{path}.event_id", event.event_id, MAX_ID)
    violations.check_length(f"{path}.product_id", event.product_id, MAX_ID)
    violations.check_length(f"{path}.search_query", event.search_query, MAX_TEXT)
    violations.check_length(f"{path}.category", event.category, MAX_TEXT)
    violations.check_length(f"{path}.attribution_token", event.attribution_token, MAX_TOKEN)
    if event.HasField("quantity") and not 1 <= event.quantity <= MAX_QUANTITY:
        violations.add(f"{path}.quantity", f"is {event.quantity}; send 1 to {MAX_QUANTITY}")
    if event.HasField("event_time"):
        _check_event_time(violations, f"{path}.event_time", event, now)
    if event.experiment_ids:
        _check_ids(violations, f"{path}.experiment_ids", event.experiment_ids, MAX_EXPERIMENTS)
    if event.shown_product_ids:
        _check_ids(violations, f"{path}.shown_product_ids", event.shown_product_ids, MAX_SHOWN)
    _check_event_type(violations, path, event)


def _check_ids(violations: Violations, path: str, ids: Sequence[str], maximum: int) -> None:
    if violations.check_count(path, len(ids), maximum):
        for position, each in enumerate(ids):
            _check_required_id(violations, f"{path}[{position}]", each)


def _check_event_type(violations: Violations, path: str, event: user_event_pb2.UserEvent) -> None:
    """Notes a bad type, or the absence of the one field that the type is about."""
    event_type = event.event_type
    if event_type == user_event_pb2.EVENT_TYPE_UNSPECIFIED:
        violations.add(f"{path}.event_type", "is required; set one of EventType")
    elif event_type not in _EVENT_TYPES:
        violations.add(f"{path}.event_type", f"has no value {event_type}; use one of EventType")
    elif event_type == _SEARCH_EVENT:
        if not event.search_query.strip():
            violations.add(f"{path}.search_query", "is required for a search; send its text")
    elif event_type == _CATEGORY_EVENT:
        if not event.category.strip():
            violations.add(f"{path}.category", "is required for a category view; send its path")
    elif event_type == _IMPRESSION:
        if not event.shown_product_ids:
            what = "is required for an impression; send the products in the order shown"
            violations.add(f"{path}.shown_product_ids", what)
    elif not event.product_id:
        name = user_event_pb2.EventType.Name(event_type)
        violations.add(f"{path}.product_id", f"is required for {name}; send the product's id")


def _check_event_time(
    violations: Violations, path: str, event: user_event_pb2.UserEvent, now: int
) -> None:
    seconds, nanos = event.event_time.seconds, event.event_time.nanos
    if seconds < EARLIEST_EVENT:
        violations.add(path, "is before 2000-01-01; send unix time")
    elif seconds > now + CLOCK_SKEW_S:
        violations.add(path, "is more than 5 minutes in the future; check the clock and the unit")
    if not 0 <= nanos <= MAX_NANOS:
        violations.add(f"{path}.nanos", f"is {nanos}; send 0 to {MAX_NANOS}")


def _check_filter(
    violations: Violations, product_filter: recommendation_service_pb2.ProductFilter
) -> None:
    categories, excluded = product_filter.categories, product_filter.excluded_product_ids
    if violations.check_count("filter.categories", len(categories), MAX_FILTER_CATEGORIES):
        for position, path in enumerate(categories):
            _check_category(violations, f"filter.categories[{position}]", path)
    if violations.check_count("filter.excluded_product_ids", len(excluded), MAX_EXCLUDED):
        for position, product_id in enumerate(excluded):
            field = f"filter.excluded_product_ids[{position}]"
            violations.check_length(field, product_id, MAX_ID)
    for name in ("minimum_price", "maximum_price"):
        price = getattr(product_filter, name)
        if product_filter.HasField(name) and not (math.isfinite(price) and price >= 0):
            violations.add(f"filter.{name}", f"is {price}; send a finite number of at least 0")
    both = product_filter.HasField("minimum_price") and product_filter.HasField("maximum_price")
    if both and product_filter.maximum_price < product_filter.minimum_price:
        violations.add("filter.maximum_price", "is below minimum_price; send at least that")


def _check_product(violations: Violations, path: str, product: product_pb2.Product) -> None:
    _check_required_id(violations, f"{path}.id", product.id)
    violations.check_length(f"{path}.title", product.title, MAX_TEXT)
    violations.check_length(f"{path}.description", product.description, MAX_DESCRIPTION)
    violations.check_length(f"{path}.brand", product.brand, MAX_BRAND)
    count = len(product.categories)
    if violations.check_count(f"{path}.categories", count, MAX_PRODUCT_CATEGORIES):
        for position, category in enumerate(product.categories):
            _check_category(violations, f"{path}.categories[{position}]", category)
    if product.HasField("price"):
        _check_price(violations, f"{path}.price", product.price)
    if product.availability not in _AVAILABILITIES:
        value = product.availability
        violations.add(f"{path}.availability", f"has no value {value}; use one of Availability")


def _check_category(violations: Violations, path: str, category: str) -> None:
    violations.check_length(path, category, MAX_TEXT)
    if not all(segment.strip() for segment in category.split(CATEGORY_SEPARATOR)):
        violations.add(path, 'has an empty segment; write "outer > inner"')


def _check_price(violations: Violations, path: str, price: money_pb2.Money) -> None:
    if not 0 <= price.units <= MAX_UNITS:
        violations.add(f"{path}.units", f"is {price.units}; send 0 to {MAX_UNITS}")
    if not 0 <= price.nanos <= MAX_NANOS:
        violations.add(f"{path}.nanos", f"is {price.nanos}; send 0 to {MAX_NANOS}")
    if not CURRENCY.fullmatch(price.currency_code):
        violations.add(f"{path}.currency_code", 'use three capital letters, such as "EUR"')


def _check_required_id(violations: Violations, path: str, product_id: str) -> None:
    if not product_id:
        violations.add(path, f"is required; send 1 to {MAX_ID} characters")
    violations.check_length(path, product_id, MAX_ID)
