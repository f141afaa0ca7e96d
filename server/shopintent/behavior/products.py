"""Something the shop sells, and the one text that stands for it in every embedding."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

CATEGORY_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the catalog. Everything but the id may be unknown."""

    product_id: str
    title: str = ""
    description: str = ""
    brand: str = ""
    categories: tuple[str, ...] = ()
    """Full paths, segments joined by " > ", the main one first."""
    price: Decimal | None = None
    """In the catalog's currency; not negative."""
    currency: str = ""
    """ISO 4217, for example "EUR"; empty without a price or when the log does not say."""
    in_stock: bool = True


def price_in_units(product: Product) -> float | None:
    """Returns the price as the number that filters and buckets compare, or None when unknown."""
    return None if product.price is None else float(product.price)


def product_text(product: Product) -> str:
    """Returns the text that is embedded for a product; empty when nothing is known about it.

    A part without a letter, such as a category that is a number, is an id and says nothing.
    """
    category = product.categories[0] if product.categories else ""
    parts = (product.title, product.brand, category, product.description)
    return ". ".join(part for part in parts if any(map(str.isalpha, part)))


def category_and_ancestors(path: str) -> list[str]:
    """Returns the path and every path above it, deepest first: "a > b" gives ["a > b", "a"]."""
    segments = path.split(CATEGORY_SEPARATOR)
    return [CATEGORY_SEPARATOR.join(segments[:depth]) for depth in range(len(segments), 0, -1)]
