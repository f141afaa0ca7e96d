from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopintent.behavior import Product
from shopintent.server.filters import matches
from shopintent.server.index import ProductFilter

CHAIR = Product(
    "chair", categories=("Garden > Chairs > Folding", "Outdoor"), price=Decimal("19.90")
)


def test_a_filter_that_asks_nothing_lets_products_in_stock_pass() -> None:
    assert matches(CHAIR, ProductFilter())
    assert not matches(replace(CHAIR, in_stock=False), ProductFilter())
    sold_out_too = ProductFilter(out_of_stock_included=True)
    assert matches(replace(CHAIR, in_stock=False), sold_out_too)


@pytest.mark.parametrize(
    ("categories", "passes"),
    [
        (("Garden",), True),
        (("Garden > Chairs",), True),
        (("Garden > Chairs > Folding",), True),
        (("Outdoor",), True),
        (("Kitchen", "Outdoor"), True),
        (("Garden > Chairs > Folding > Red",), False),
        (("Chairs",), False),
        (("Gard",), False),
        (("garden",), False),
        (("Outdoor > Chairs",), False),
    ],
)
def test_a_category_holds_all_that_is_below_it(categories: tuple[str, ...], passes: bool) -> None:
    assert matches(CHAIR, ProductFilter(categories=categories)) is passes


@pytest.mark.parametrize(
    ("minimum", "maximum", "passes"),
    [
        (19.9, None, True),
        (None, 19.9, True),
        (19.9, 19.9, True),
        (19.91, None, False),
        (None, 19.89, False),
        (0.0, 100.0, True),
    ],
)
def test_price_bounds_are_inclusive(
    minimum: float | None, maximum: float | None, passes: bool
) -> None:
    product_filter = ProductFilter(minimum_price=minimum, maximum_price=maximum)
    assert matches(CHAIR, product_filter) is passes


@pytest.mark.parametrize("bounds", [{"minimum_price": 0.0}, {"maximum_price": 1e12}])
def test_a_product_without_a_price_fails_either_bound(bounds: dict[str, float]) -> None:
    assert not matches(Product("unpriced"), ProductFilter(**bounds))  # type: ignore[arg-type]


def test_a_free_product_has_a_price() -> None:
    assert matches(Product("gift", price=Decimal(0)), ProductFilter(minimum_price=0.0))


def test_an_excluded_product_never_passes() -> None:
    assert not matches(CHAIR, ProductFilter(excluded_product_ids=frozenset({"chair"})))


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(" > ".join)
prices = st.none() | st.integers(0, 20)


@given(
    categories=st.lists(paths, max_size=3),
    wanted=st.lists(paths, max_size=3),
    price=prices,
    minimum=prices,
    maximum=prices,
    in_stock=st.booleans(),
    out_of_stock_included=st.booleans(),
)
def test_all_conditions_must_hold_together(
    categories: list[str],
    wanted: list[str],
    price: int | None,
    minimum: int | None,
    maximum: int | None,
    in_stock: bool,
    out_of_stock_included: bool,
) -> None:
    product = Product(
        "p",
        categories=tuple(categories),
        price=None if price is None else Decimal(price),
        in_stock=in_stock,
    )
    everything = ProductFilter(out_of_stock_included=True)
    alone = [
        replace(everything, categories=tuple(wanted)),
        replace(everything, minimum_price=None if minimum is None else float(minimum)),
        replace(everything, maximum_price=None if maximum is None else float(maximum)),
        replace(everything, out_of_stock_included=out_of_stock_included),
    ]
    together = ProductFilter(
        categories=alone[0].categories,
        minimum_price=alone[1].minimum_price,
        maximum_price=alone[2].maximum_price,
        out_of_stock_included=out_of_stock_included,
    )
    assert matches(product, together) is all(matches(product, each) for each in alone)
