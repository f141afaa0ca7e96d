"""The tokenizer as it is fitted to a catalog."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from shopintent.behavior import BehaviorTokenizer, Event, Product
from shopintent.behavior.codebook import LEVELS
from shopintent.behavior.vocabulary import FIRST, stranger
from shopintent.trainer.fit import PRICE_BUCKETS, fit_codebook, fit_price_edges, fit_tokenizer
from support import shop as shops

TEXT_SIZE = 8


def tokenizer() -> BehaviorTokenizer:
    return fit_tokenizer(
        shops.products(40),
        shops.unit_vectors(40, TEXT_SIZE),
        event_types=("view-product", "purchase"),
        code_size=6,
        max_events=16,
        seed=7,
    )


def test_every_product_keeps_its_row_and_its_content() -> None:
    fitted, products = tokenizer(), shops.products(40)
    behavior = fitted.encode([Event("view-product", 1, each.product_id) for each in products])
    assert behavior.tokens[:, 1].tolist() == list(range(FIRST, FIRST + 40))
    content = fitted.encode_content(products, shops.unit_vectors(40, TEXT_SIZE))
    assert np.array_equal(behavior.tokens[:, 2:-1], content)
    assert (content[:, :LEVELS] > 0).all()


def test_the_same_seed_fits_the_same_tokenizer() -> None:
    assert tokenizer().fingerprint == tokenizer().fingerprint


def test_a_category_is_known_with_all_its_ancestors() -> None:
    words = tokenizer().categories.words
    assert {"Garden", "Garden > Chairs", "Garden > Chairs > Folding", "Kitchen > Pans"} <= {*words}
    assert "" not in words


def test_an_unknown_product_is_a_stranger_without_content() -> None:
    behavior = tokenizer().encode([Event("view-product", 1, "new")])
    assert behavior.tokens[0, 1] == stranger("new")
    assert not behavior.tokens[0, 2:-1].any()


def test_equally_many_products_lie_between_price_edges() -> None:
    products = [Product(str(n), price=Decimal(n * n)) for n in range(1, 161)]
    edges = fit_price_edges(products)
    buckets = np.searchsorted(edges, [float(n * n) for n in range(1, 161)], side="right")
    assert len(edges) == PRICE_BUCKETS - 1
    assert np.bincount(buckets).tolist() == pytest.approx([10] * PRICE_BUCKETS, abs=1)


def test_without_prices_there_are_no_edges_and_with_one_price_no_repeats() -> None:
    assert fit_price_edges([Product("a"), Product("b")]).tolist() == []
    assert fit_price_edges([Product(str(n), price=Decimal(5)) for n in range(9)]).tolist() == [5.0]


def test_a_codebook_comes_closer_with_every_level() -> None:
    embeddings = shops.unit_vectors(200, TEXT_SIZE)
    codebook = fit_codebook(embeddings, 16, seed=1)
    codes = codebook.encode(embeddings)
    left = embeddings.copy()
    errors = [float((left**2).sum())]
    for level in range(LEVELS):
        left -= codebook.centroids[level][codes[:, level] - 1]
        errors.append(float((left**2).sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.4 * errors[0]


def test_fewer_texts_than_codes_and_no_texts_at_all_are_fine() -> None:
    few = fit_codebook(np.repeat(shops.unit_vectors(3, TEXT_SIZE), 5, axis=0), 16, seed=1)
    assert few.centroids.shape == (LEVELS, 3, TEXT_SIZE)
    none = fit_codebook(np.zeros((5, TEXT_SIZE), np.float32), 16, seed=1)
    assert not none.encode(np.zeros((2, TEXT_SIZE), np.float32)).any()
