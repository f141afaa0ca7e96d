"""Visitors with a past: made up from the products of a release, and tracked like real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from deploy.demo.visit import REQUESTS
from shopintent.behavior import Event, Product
from shopintent.behavior.events import ADD_TO_CART, FAVORITE, VIEW_CATEGORY, VIEW_PRODUCT
from shopintent.client import ShopIntentClient

KINDS = {VIEW_PRODUCT: 0.8, VIEW_CATEGORY: 0.1, ADD_TO_CART: 0.06, FAVORITE: 0.04}
"""How often what happens. Searches are left out: their texts take another model to encode."""
SAME_CATEGORY_SHARE = 0.7
"""Of the events, those that stay in the category of the event before."""
SECONDS_BETWEEN = 25
MAX_TRACKED = 100
"""Events of one call."""
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Visitor:
    """Who visits, and what they did, oldest first."""

    visitor_id: str
    events: tuple[Event, ...]


def make_visitors(
    products: Sequence[Product], *, n_visitors: int, n_events: int, newest_time: int
) -> list[Visitor]:
    """Returns visitors who did so many things each, the last of them at `newest_time`.

    Popular products come more often: those at the beginning of `products`. Their ids are of one
    length and name `newest_time`: a server that remembers an earlier run does not mix them up. The
    same call always returns the same visitors.
    """
    random = np.random.default_rng([n_visitors, n_events])
    by_category: dict[tuple[str, ...], list[Product]] = {}
    for product in products:
        by_category.setdefault(product.categories, []).append(product)
    oldest_time = newest_time - SECONDS_BETWEEN * (n_events - 1)
    times = [oldest_time + SECONDS_BETWEEN * position for position in range(n_events)]

    def visit() -> Iterator[Event]:
        shelf = products
        for time in times:
            stays = random.random() < SAME_CATEGORY_SHARE
            product = _popular(shelf if stays else products, random)
            shelf = by_category[product.categories]
            yield _event(str(random.choice(list(KINDS), p=list(KINDS.values()))), product, time)

    return [
        Visitor(f"bench-{newest_time:010}-{n_events:03}-{number:06}", tuple(visit()))
        for number in range(n_visitors)
    ]


def _popular(products: Sequence[Product], random: np.random.Generator) -> Product:
    # The square makes the first tenth of the products three times as likely as an even draw.
    return products[int(len(products) * random.random() ** 2)]


def _event(kind: str, product: Product, time: int) -> Event:
    if kind == VIEW_CATEGORY and product.categories:
        return Event(kind, time, category=product.categories[0])
    if kind == ADD_TO_CART:
        return Event(kind, time, product_id=product.product_id, quantity=1)
    return Event(FAVORITE if kind == FAVORITE else VIEW_PRODUCT, time, product.product_id)


def track(client: ShopIntentClient, visitors: Sequence[Visitor]) -> None:
    """Sends what the visitors did to the server."""
    for visitor in visitors:
        for start in range(0, len(visitor.events), MAX_TRACKED):
            requests = [
                REQUESTS[event.event_type](event, datetime.fromtimestamp(event.event_time, UTC))
                for event in visitor.events[start : start + MAX_TRACKED]
            ]
            client.track_events(visitor.visitor_id, requests, timeout_s=PATIENCE_S)
