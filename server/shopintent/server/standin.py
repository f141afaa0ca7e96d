"""What is shown when nothing personal can be: popular and trending products, mixed.

Whoever is known to have looked at something gets the popular products of its categories first. Of
the next products that 5,358 visitors of a general shop viewed 4.9 % are among the 20 most popular,
15 % are on such a page, and 17 % would be if nothing else were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count, islice

from shopintent.behavior import Event, Product
from shopintent.server.index import ProductFilter
from shopintent.server.popular import PopularNow
from shopintent.server.ranking import RankedProduct, Source

TRENDING_EVERY = 4
"""Each fourth place is for what is trending, or popular with everybody where nothing is."""
RECENT_EVENTS = 20
"""Newest events whose categories count, from the newest back."""
RECENT_CATEGORIES = 3

Found = tuple[Product, Source]


def stand_in(
    popular: PopularNow, events: Sequence[Event], product_filter: ProductFilter, limit: int
) -> list[RankedProduct]:
    """Returns products that pass the filter, each once, best first.

    `events` are what the visitor did, oldest first; none for a cold start. Scores fall evenly from
    1: what is counted of products in different lists does not compare.
    """
    best = [(product, Source.POPULAR) for product, _ in popular.top(limit, product_filter)]
    rising = [(product, Source.TRENDING) for product in popular.trending(limit, product_filter)]
    familiar = _familiar(popular, events, product_filter, limit)
    mixed = _mixed(chain(familiar, best), chain(rising, best))
    page = list(islice(mixed, max(limit, 0)))
    return [
        RankedProduct(product, 1.0 - place / len(page), source)
        for place, (product, source) in enumerate(page)
    ]


def _mixed(usual: Iterator[Found], fourth: Iterator[Found]) -> Iterator[Found]:
    """Yields every product of both once, from each in its turn for as long as it has more."""
    shown: set[str] = set()
    for place in count(1):
        first, other = (usual, fourth) if place % TRENDING_EVERY else (fourth, usual)
        unseen = (each for each in chain(first, other) if each[0].product_id not in shown)
        found = next(unseen, None)
        if found is None:
            return
        shown.add(found[0].product_id)
        yield found


def _familiar(
    popular: PopularNow, events: Sequence[Event], product_filter: ProductFilter, limit: int
) -> Iterator[Found]:
    """Yields what is popular in the categories of the newest events, the newest first."""
    newest = (
        event.category or popular.category_of(event.product_id)
        for event in reversed(events[-RECENT_EVENTS:])
    )
    categories = dict.fromkeys(filter(None, newest))
    for category in islice(categories, RECENT_CATEGORIES):
        for product in popular.top_of(category, limit, product_filter):
            yield product, Source.POPULAR
