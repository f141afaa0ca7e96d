"""A tokenizer and a network that know more products than before; what they knew keeps its id.

Codebook, price buckets and event types stay: they decide what every token means. A new product,
category or brand starts as what it was read as until now, an unknown one with a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from shopintent.behavior import BehaviorTokenizer, Product, Vocabulary
from shopintent.behavior.products import category_and_ancestors
from shopintent.behavior.tokenizer import empty_product_table
from shopintent.behavior.vocabulary import FIRST, UNKNOWN
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.product_tower import CONTENT_FIELDS


def grown_tokenizer(
    before: BehaviorTokenizer, products: Sequence[Product], texts: NDArray[np.float32]
) -> BehaviorTokenizer:
    """Returns a tokenizer that knows these products, the known ones first and in their order.

    `texts` [P, E] are their text embeddings. The content of known products is that of today.
    """
    ids = Vocabulary(tuple(each.product_id for each in products))
    paths = {
        path
        for each in products
        for name in each.categories
        for path in category_and_ancestors(name)
    }
    grown = replace(
        before,
        products=ids,
        categories=appended(before.categories, paths),
        brands=appended(before.brands, {each.brand for each in products if each.brand}),
        product_table=empty_product_table(ids),
    )
    grown.product_table[FIRST:] = grown.encode_content(products, texts)
    return grown


def appended(known: Vocabulary, words: set[str]) -> Vocabulary:
    """Returns the vocabulary with the words it lacks behind its own."""
    return Vocabulary((*known.words, *sorted(words - set(known.words))))


def grown_network(
    before: IntentNetwork, known: BehaviorTokenizer, grown: BehaviorTokenizer
) -> IntentNetwork:
    """Returns a network for the grown tokenizer that answers as the one before does."""
    network = IntentNetwork(replace(before.config, field_sizes=grown.sizes))
    weights = before.state_dict()
    tables = {
        "products.own.weight": [UNKNOWN] * new_words(known.products, grown.products),
        field_table("category"): [
            known.categories.lookup_first(category_and_ancestors(path))
            for path in grown.categories.words[len(known.categories.words) :]
        ],
        field_table("brand"): [UNKNOWN] * new_words(known.brands, grown.brands),
    }
    for name, start_as in tables.items():
        rows = weights[name][torch.tensor(start_as, dtype=torch.long)]
        weights[name] = torch.cat([weights[name], rows])
    network.load_state_dict(weights)
    return network


def field_table(field: str) -> str:
    """Returns what the weights of a content field's embedding are called."""
    return f"products.fields.{CONTENT_FIELDS.index(field)}.weight"


def new_words(known: Vocabulary, grown: Vocabulary) -> int:
    """Returns how many words were appended."""
    return len(grown.words) - len(known.words)
