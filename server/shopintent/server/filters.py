"""What a ProductFilter means, without an index: every engine must agree with this."""

from __future__ import annotations

from shopintent.behavior import Product, price_in_units
from shopintent.behavior.products import category_and_ancestors
from shopintent.server.index import ProductFilter


def matches(product: Product, product_filter: ProductFilter) -> bool:
    """Returns whether the product passes every condition of the filter."""
    if product.product_id in product_filter.excluded_product_ids:
        return False
    if not (product.in_stock or product_filter.out_of_stock_included):
        return False
    return _in_price_bounds(product, product_filter) and _in_categories(product, product_filter)


def _in_price_bounds(product: Product, product_filter: ProductFilter) -> bool:
    minimum, maximum = product_filter.minimum_price, product_filter.maximum_price
    if minimum is None and maximum is None:
        return True
    price = price_in_units(product)
    if price is None:
        return False
    return (minimum is None or minimum <= price) and (maximum is None or price <= maximum)


def _in_categories(product: Product, product_filter: ProductFilter) -> bool:
    if not product_filter.categories:
        return True
    wanted = set(product_filter.categories)
    return any(not wanted.isdisjoint(category_and_ancestors(path)) for path in product.categories)
