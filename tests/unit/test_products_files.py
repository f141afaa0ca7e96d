from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopintent.artifacts import ReleaseError, ReleaseFolder, read_products
from shopintent.artifacts.products import (
    product_from_json,
    product_to_json,
    read_first_products,
)
from shopintent.behavior import Product, price_in_units, product_text
from shopintent.behavior.products import category_and_ancestors
from support import shop as shops

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@given(
    product=st.builds(
        Product,
        product_id=text.filter(bool),
        title=text,
        description=text,
        brand=text,
        categories=st.lists(text, max_size=3).map(tuple),
        price=st.none() | st.decimals(min_value=0, allow_nan=False, allow_infinity=False, places=4),
        currency=st.sampled_from(["", "EUR"]),
        in_stock=st.booleans(),
    )
)
def test_a_product_comes_back_from_json_as_it_was(product: Product) -> None:
    line = json.dumps(product_to_json(product))
    read = product_from_json(json.loads(line))
    assert read == product
    assert str(read.price) == str(product.price)


def test_a_price_keeps_every_digit() -> None:
    product = Product("p", price=Decimal("0.100000000000000000001"))
    assert product_from_json(product_to_json(product)).price == product.price


def test_what_is_unknown_is_left_out() -> None:
    assert product_to_json(Product("p")) == {"product_id": "p", "in_stock": True}


@pytest.fixture
def release(tmp_path: Path) -> ReleaseFolder:
    return shops.write_release(tmp_path, shops.indexed(shops.products(20)))


def test_the_collection_comes_back_in_its_order(release: ReleaseFolder) -> None:
    written = shops.indexed(shops.products(20))
    read = list(read_products(release))
    assert [each.product for each in read] == [each.product for each in written]
    for back, each in zip(read, written, strict=True):
        assert back.embedding.dtype == np.float32
        assert back.content.dtype == np.int32
        np.testing.assert_array_equal(back.embedding, each.embedding)
        np.testing.assert_array_equal(back.content, each.content)


def test_the_first_products_are_the_first_lines(release: ReleaseFolder) -> None:
    first = [each.product.product_id for each in read_first_products(release, 7)]
    assert first == [product.product_id for product in shops.products(7)]
    assert len(read_first_products(release, 100)) == 20
    assert read_first_products(release, 0) == []


def test_an_id_with_odd_line_ends_stays_one_line(tmp_path: Path) -> None:
    odd = Product("a\u2028b\x85c\nd\re", title="line\r\nbreaks")
    release = shops.write_release(tmp_path, shops.indexed([odd]))
    assert [each.product for each in read_products(release)] == [odd]


FILES = ("products", "product_embeddings", "product_content")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(release: ReleaseFolder, name: str) -> None:
    path: Path = getattr(release, name)
    path.unlink()
    with pytest.raises(ReleaseError, match=str(release.path)):
        list(read_products(release))


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused(release: ReleaseFolder, name: str) -> None:
    path: Path = getattr(release, name)
    whole = path.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        if name == "products" and size == len(whole) - 1:
            continue  # Only the last line end is gone.
        with pytest.raises(ReleaseError, match=str(release.path)):
            list(read_products(release))


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "null",
        "{",
        '{"product_id": "p"}',
        '{"product_id": "p", "in_stock": true, "price": "cheap"}',
        '{"product_id": "p", "in_stock": true, "categories": 3}',
    ],
)
def test_a_damaged_line_is_refused(release: ReleaseFolder, line: str) -> None:
    lines = release.products.read_text(encoding="utf-8").splitlines()
    release.products.write_text("\n".join([line, *lines[1:]]), encoding="utf-8")
    with pytest.raises(ReleaseError, match=str(release.path)):
        list(read_products(release))


def test_files_of_different_lengths_are_refused(release: ReleaseFolder) -> None:
    lines = release.products.read_text(encoding="utf-8").splitlines()
    for some in (lines[:-1], [*lines, lines[0]]):
        release.products.write_text("\n".join(some) + "\n", encoding="utf-8")
        with pytest.raises(ReleaseError):
            list(read_products(release))


# What is known of a product


def test_a_category_path_has_itself_and_all_above_it_deepest_first() -> None:
    assert category_and_ancestors("a > b > c") == ["a > b > c", "a > b", "a"]
    assert category_and_ancestors("a") == ["a"]
    assert category_and_ancestors("a>b") == ["a>b"]


def test_the_text_of_a_product_says_what_is_known() -> None:
    product = Product("p", "Chair", "It folds", "Acme", ("Garden > Chairs", "Outdoor"))
    assert product_text(product) == "Chair. Acme. Garden > Chairs. It folds"
    assert product_text(Product("p", brand="Acme")) == "Acme"
    assert product_text(Product("p")) == ""


def test_a_number_says_nothing_as_text() -> None:
    assert product_text(Product("p", "Chair", categories=("1051",))) == "Chair"


def test_a_price_compares_as_a_number() -> None:
    assert price_in_units(Product("p", price=Decimal("19.90"))) == 19.9
    assert price_in_units(Product("p", price=Decimal(0))) == 0.0
    assert price_in_units(Product("p")) is None
