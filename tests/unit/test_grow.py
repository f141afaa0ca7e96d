"""Growing tokenizer and network: what is known keeps its meaning, what is new starts unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shopintent.behavior import BehaviorTokenizer, Product
from shopintent.behavior.tokenizer import PRODUCT_FIELDS
from shopintent.behavior.vocabulary import FIRST, UNKNOWN
from shopintent.trainer.fit import fit_tokenizer
from shopintent.trainer.model import IntentNetwork, ModelConfig
from shopintent.trainer.update.grow import grown_network, grown_tokenizer

TEXT_SIZE = 6
KNOWN = [
    Product(product_id="a", title="red shoe", brand="Velox", categories=("Sports > Shoes",)),
    Product(product_id="b", title="blue hat", brand="Lumo", categories=("Fashion > Hats",)),
    Product(product_id="c", title="green sock", brand="Lumo", categories=("Fashion",)),
]
NEW = [
    Product(product_id="z", title="ski", brand="Alpina", categories=("Sports > Winter > Skis",)),
    Product(product_id="y", title="sled", brand="Velox", categories=("Toys",)),
]


def texts(n: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(3).normal(size=(n, TEXT_SIZE)).astype(np.float32)


@pytest.fixture
def known() -> BehaviorTokenizer:
    return fit_tokenizer(
        KNOWN, texts(3), event_types=("view-product",), code_size=2, max_events=8, seed=1
    )


@pytest.fixture
def network(known: BehaviorTokenizer) -> IntentNetwork:
    torch.manual_seed(4)
    config = ModelConfig(
        field_sizes=known.sizes, n_actions=2, text_embedding_size=TEXT_SIZE, session_gap_s=1800,
        max_events=8, d_model=8, n_layers=1, n_heads=2, dropout=0.0, id_dropout=0.1,
    )  # fmt: skip
    made = IntentNetwork(config)
    made.products.unfold(torch.tensor(texts(3)), torch.tensor(known.codebook.centroids))
    made.products.fold()
    return made.eval()


def grow(known: BehaviorTokenizer) -> BehaviorTokenizer:
    return grown_tokenizer(known, [*KNOWN, *NEW], texts(5))


def test_known_words_keep_their_ids_and_new_ones_stand_behind_them(
    known: BehaviorTokenizer,
) -> None:
    grown = grow(known)
    assert grown.products.words == ("a", "b", "c", "z", "y")
    for name in ("products", "categories", "brands", "event_types"):
        before = getattr(known, name).words
        assert getattr(grown, name).words[: len(before)] == before
    assert set(grown.brands.words) - set(known.brands.words) == {"Alpina"}
    assert "Sports > Winter > Skis" in grown.categories.words
    np.testing.assert_array_equal(grown.codebook.centroids, known.codebook.centroids)
    np.testing.assert_array_equal(grown.price_edges, known.price_edges)
    np.testing.assert_array_equal(grown.product_table[: known.products.size], known.product_table)
    assert grown.fingerprint != known.fingerprint


def test_a_tokenizer_that_learns_nothing_new_is_the_same(known: BehaviorTokenizer) -> None:
    assert grown_tokenizer(known, KNOWN, texts(3)).fingerprint == known.fingerprint


def test_content_of_a_known_product_follows_the_shop(known: BehaviorTokenizer) -> None:
    moved = [replace(KNOWN[0], categories=("Fashion > Hats",)), *KNOWN[1:]]
    grown = grown_tokenizer(known, moved, texts(3))
    assert grown.product_table[FIRST, 3] == known.product_table[FIRST + 1, 3]


def test_a_grown_network_says_of_every_product_what_it_said_before(
    known: BehaviorTokenizer, network: IntentNetwork
) -> None:
    """New products were unknown ones with texts until now, of the nearest category there was."""
    grown = grow(known)
    bigger = grown_network(network, known, grown).eval()
    content = [tokenizer.encode_content([*KNOWN, *NEW], texts(5)) for tokenizer in (known, grown)]
    ids = [[FIRST, FIRST + 1, FIRST + 2, UNKNOWN, UNKNOWN], list(range(FIRST, FIRST + 5))]
    told = torch.tensor(texts(5))
    with torch.no_grad():
        before = network.products(torch.tensor(np.column_stack([ids[0], content[0]])), told)
        # A new id adds nothing yet; its text is in the id only after training.
        bigger.products.unfold_again(torch.tensor(texts(3)), told)
        after = bigger.products(torch.tensor(np.column_stack([ids[1], content[1]])), told)
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
        bigger.products.fold()
        folded = bigger.products(torch.tensor(np.column_stack([ids[1], content[1]])), told)
    torch.testing.assert_close(folded, before, atol=1e-5, rtol=1e-5)
    assert content[1].shape[1] + 1 == len(PRODUCT_FIELDS)


def test_a_known_product_whose_text_changed_moves_with_it(
    known: BehaviorTokenizer, network: IntentNetwork
) -> None:
    same, moved = (grown_network(network, known, known).eval() for _ in range(2))
    others = texts(3)
    others[0] = -others[0]
    same.products.unfold_again(torch.tensor(texts(3)), torch.tensor(texts(3)))
    moved.products.unfold_again(torch.tensor(texts(3)), torch.tensor(others))
    tokens = torch.tensor(np.column_stack([range(FIRST, FIRST + 3), known.product_table[FIRST:]]))
    for each in (same, moved):
        each.products.fold()
    with torch.no_grad():
        before = network.products(tokens, torch.tensor(texts(3)))
        torch.testing.assert_close(same.products(tokens, torch.tensor(texts(3))), before)
        changed = moved.products(tokens, torch.tensor(others))
    torch.testing.assert_close(changed[1:], before[1:])
    assert not torch.allclose(changed[0], before[0], atol=1e-3)
