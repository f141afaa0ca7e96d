"""One thing a visitor did, free of any wire or log format."""

from __future__ import annotations

from dataclasses import dataclass

VIEW_PRODUCT = "view-product"
VIEW_CATEGORY = "view-category"
SEARCH = "search"
FAVORITE = "favorite"
ADD_TO_CART = "add-to-cart"
REMOVE_FROM_CART = "remove-from-cart"
PURCHASE = "purchase"

EVENT_TYPES = (
    VIEW_PRODUCT,
    VIEW_CATEGORY,
    SEARCH,
    FAVORITE,
    ADD_TO_CART,
    REMOVE_FROM_CART,
    PURCHASE,
)
"""The event types of the contract; a release knows those that its log held."""

PRODUCT_EVENT_TYPES = frozenset(EVENT_TYPES) - {VIEW_CATEGORY, SEARCH}
"""The event types that are about one product."""

QUANTITY_EVENT_TYPES = frozenset({ADD_TO_CART, REMOVE_FROM_CART, PURCHASE})
"""The event types that are about a number of units, 1 unless said otherwise."""

LEAVE = "leave"
"""The next action when a visit ends; never an event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. Fields that do not belong to its type are empty."""

    event_type: str
    event_time: int
    """Unix time in whole seconds."""
    product_id: str = ""
    category: str = ""
    """The path of the category viewed; a product's own categories come from the catalog."""
    search_query: str = ""
    quantity: int = 0
    """Units put into the cart, taken out or bought; 0 where the type is not about units."""
