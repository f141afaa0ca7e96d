"""What is shown when nothing personal can be: popular and trending products, mixed.

Whoever is known to have looked at something gets the popular products of its categories first. In
the sample of REES46 4.9 % of 5,358 next products, of what a visitor had not seen, are among the 20
most popular, 15 % are on a page like this, and 17 % would be if nothing else were on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

from shopintent.behavior import Event, Product
from shopintent.server.index import ProductFilter
from shopintent.server.popular import PopularNow
from shopintent.server.ranking import RankedProduct, Source

TRENDING_EVERY = 4
"""Each fourth place is for what is trending, or popular with everybody where nothing is."""
RECENT_EVENTS = 20
"""Newest events whose categories count, from the newest back."""
RECENT_CATEGORIES = 3


def stand_in(
    popular: PopularNow, events: Sequence[Event], product_filter: ProductFilter, limit: int
) -> list[RankedProduct]:
    """Returns products that pass the filter, each once, best first.

    `events` are what the visitor did, oldest first; none for a cold start. Scores fall evenly from
    1: what is counted of products in different lists does not compare.
    """
    best = [product for product, _ in popular.top(limit, product_filter)]
    usual = chain(_familiar(popular, events, product_filter, limit), best)
    rising, rest = iter(popular.trending(limit, product_filter)), iter(best)
    page: dict[str, tuple[Product, Source]] = {}
    while len(page) < limit:
        found = False
        if len(page) % TRENDING_EVERY == TRENDING_EVERY - 1:
            found = _take(page, rising, Source.TRENDING) or _take(page, rest, Source.POPULAR)
        if not found and not _take(page, usual, Source.POPULAR):
            break
    n_products = len(page)
    return [
        RankedProduct(product, 1.0 - place / n_products, source)
        for place, (product, source) in enumerate(page.values())
    ]


def _take(
    page: dict[str, tuple[Product, Source]], products: Iterator[Product], source: Source
) -> bool:
    """Moves the next product to the page that is not yet on it; returns whether there was one."""
    for product in products:
        if product.product_id not in page:
            page[product.product_id] = (product, source)
            return True
    return False


def _familiar(
    popular: PopularNow, events: Sequence[Event], product_filter: ProductFilter, limit: int
) -> Iterator[Product]:
    """Yields what is popular in the categories of the newest events, the newest first."""
    newest = (
        event.category or popular.category_of(event.product_id)
        for event in reversed(events[-RECENT_EVENTS:])
    )
    categories = dict.fromkeys(filter(None, newest))
    for category in islice(categories, RECENT_CATEGORIES):
        yield from popular.top_of(category, limit, product_filter)
