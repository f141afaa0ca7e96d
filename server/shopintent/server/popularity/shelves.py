"""Products that are held in memory, by id and by every category they are under."""

from __future__ import annotations

from collections.abc import Iterator

from shopintent.behavior import Product
from shopintent.behavior.products import category_and_ancestors


class Shelves:
    """Products by id, and the ids that stand under each category path."""

    def __init__(self) -> None:
        self.products: dict[str, Product] = {}
        self.categories: dict[str, set[str]] = {}
        """Of each path with a product, the ids of all that are under it."""

    def put(self, product: Product) -> None:
        """Holds a product, in place of what was held by its id."""
        before = self.products.get(product.product_id)
        if before is None or before.categories != product.categories:
            self.drop(product.product_id)
            for path in _paths(product):
                self.categories.setdefault(path, set()).add(product.product_id)
        self.products[product.product_id] = product

    def drop(self, product_id: str) -> None:
        """Holds a product no more, if it did."""
        product = self.products.pop(product_id, None)
        if product is None:
            return
        for path in _paths(product):
            self.categories[path].discard(product_id)
            if not self.categories[path]:
                del self.categories[path]


def _paths(product: Product) -> Iterator[str]:
    """Yields every path that the product is under, once."""
    under = (path for name in product.categories for path in category_and_ancestors(name))
    yield from dict.fromkeys(under)
