"""The one place where events become token ids; trainer and server both call it.

An event is nine integers: what was done, to which product, the product's content (three codes of
its text, category, brand, price bucket), and how many units. Time travels beside them, in seconds.
A product that did not exist in training has its own content, and in place of an id a number below
0: no model knows it, but coming back to it can be told from going on to another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shopintent.behavior.codebook import LEVELS, ContentCodebook
from shopintent.behavior.events import SEARCH, VIEW_CATEGORY, Event
from shopintent.behavior.products import Product, category_and_ancestors, price_in_units
from shopintent.behavior.vocabulary import FIRST, PADDING, UNKNOWN, Vocabulary, stranger
from shopintent.behavior.word_tokens import EventColumns, WordTokens

FORMAT_VERSION = 3
"""Bump it when the ids of any event change; artifacts of another version are refused."""

PRODUCT_FIELDS = ("product", "code_1", "code_2", "code_3", "category", "brand", "price_bucket")
QUANTITY = "quantity"
"""The one field that is a number and not an id: units, 0 where the event is not about any."""
EVENT_FIELDS = ("event_type", *PRODUCT_FIELDS, QUANTITY)
N_CONTENT = len(PRODUCT_FIELDS) - 1


class TokenizerError(ValueError):
    """A saved tokenizer cannot be used; the message says why."""


@dataclass(frozen=True, eq=False)
class Behavior:
    """Events as tokens, in the order they happened."""

    tokens: NDArray[np.int32]
    """[N, 9], the columns are EVENT_FIELDS."""
    event_times: NDArray[np.int64]
    """[N], unix seconds, never decreasing."""

    def __len__(self) -> int:
        return len(self.event_times)


EMPTY_BEHAVIOR = Behavior(
    np.zeros((0, len(EVENT_FIELDS)), dtype=np.int32), np.zeros(0, dtype=np.int64)
)


@dataclass(frozen=True, eq=False)
class BehaviorTokenizer:
    """Fitted vocabularies, codebooks and buckets: plain data, saved with the model."""

    event_types: Vocabulary
    products: Vocabulary
    categories: Vocabulary
    """Paths and all their ancestors."""
    brands: Vocabulary
    codebook: ContentCodebook
    price_edges: NDArray[np.float64]
    """Ascending; a price is in bucket 1 + the number of edges at or below it, 0 is unknown."""
    product_table: NDArray[np.int32]
    """[products.size, 6]: the content of every product id when the release was trained."""
    max_events: int = 128

    @property
    def sizes(self) -> dict[str, int]:
        """How many ids each of EVENT_FIELDS has that is an id."""
        code_size = self.codebook.size
        return {
            "event_type": self.event_types.size,
            "product": self.products.size,
            **{f"code_{level}": code_size for level in range(1, LEVELS + 1)},
            "category": self.categories.size,
            "brand": self.brands.size,
            "price_bucket": len(self.price_edges) + 2,
        }

    def encode_content(
        self, products: Sequence[Product], embeddings: NDArray[np.float32]
    ) -> NDArray[np.int32]:
        """Returns [N, 6], the content of products whose [N, E] text embeddings are given.

        The embedding of a product without text is all zeros.
        """
        content = np.zeros((len(embeddings), N_CONTENT), dtype=np.int32)
        content[:, :LEVELS] = self.codebook.encode(embeddings)
        for row, product in zip(content, products, strict=True):
            paths = [path for name in product.categories for path in category_and_ancestors(name)]
            row[LEVELS] = self.categories.lookup_first(paths)
            row[LEVELS + 1] = self.brands.lookup(product.brand)
            row[LEVELS + 2] = self.price_bucket(price_in_units(product))
        return content

    def price_bucket(self, price: float | None) -> int:
        """Returns the price's bucket; 0 when the price is unknown."""
        return (
            0 if price is None else 1 + int(np.searchsorted(self.price_edges, price, side="right"))
        )

    def encode_product(self, product_id: str, content: NDArray[np.int32]) -> NDArray[np.int32]:
        """Returns [7], what the product encoder reads: the id and the content."""
        return np.concatenate([[self.products.lookup(product_id)], content]).astype(np.int32)

    def encode(
        self,
        events: Sequence[Event],
        *,
        unseen_products: Mapping[str, NDArray[np.int32]] | None = None,
        query_codes: Mapping[str, NDArray[np.int32]] | None = None,
    ) -> Behavior:
        """Returns the tokens of events, ordered by time and, where times are equal, as given.

        `unseen_products` holds the content [6] of products of the catalog that the release was not
        trained with; `query_codes` the codes [3] of search queries. Others have no content.
        """
        words = self.encode_words(
            [event.event_type for event in events],
            [event.product_id for event in events],
            [event.category for event in events],
            [event.search_query for event in events],
            unseen_products=unseen_products,
            query_codes=query_codes,
        )
        times = np.fromiter((event.event_time for event in events), np.int64, len(events))
        quantities = np.fromiter((event.quantity for event in events), np.int32, len(events))
        each = np.arange(len(events))
        tokens = words.tokens(EventColumns(each, each, each, each, quantities))
        order = np.argsort(times, kind="stable")
        return Behavior(tokens[order], times[order])

    def encode_words(
        self,
        event_types: Sequence[str],
        product_ids: Sequence[str],
        categories: Sequence[str],
        search_queries: Sequence[str],
        *,
        unseen_products: Mapping[str, NDArray[np.int32]] | None = None,
        query_codes: Mapping[str, NDArray[np.int32]] | None = None,
    ) -> WordTokens:
        """Returns the tokens of the words of events, for `encode` and for logs in columns.

        `unseen_products` and `query_codes` are those of `encode`.
        """
        unseen, codes = unseen_products or {}, query_codes or {}
        ids = np.array([self.products.lookup(each) for each in product_ids], np.int32)
        products = np.empty((len(ids), 1 + N_CONTENT), dtype=np.int32)
        products[:, 0] = ids
        products[:, 1:] = self.product_table[ids]
        for position in np.flatnonzero(ids == UNKNOWN).tolist():
            products[position, 0] = stranger(product_ids[position])
            products[position, 1:] = unseen.get(product_ids[position], 0)
        queries = np.zeros((len(search_queries), LEVELS), dtype=np.int32)
        for position, query in enumerate(search_queries):
            if query:
                queries[position] = codes.get(query, 0)
        paths = [
            self.categories.lookup_first(category_and_ancestors(each)) if each else PADDING
            for each in categories
        ]
        return WordTokens(
            event_types=np.array([self.event_types.lookup(each) for each in event_types], np.int32),
            searches=np.array([each == SEARCH for each in event_types], bool),
            category_views=np.array([each == VIEW_CATEGORY for each in event_types], bool),
            products=products,
            categories=np.array(paths, np.int32),
            search_queries=queries,
        )

    def window(self, behavior: Behavior, length: int | None = None) -> Behavior:
        """Returns the last `length` events, padded at the end with zeros to exactly that many.

        `length` is `max_events` if not given, and at most that. Padding is behind the events
        because the model is causal: no event can see it.
        """
        length = self.max_events if length is None else min(length, self.max_events)
        kept = min(len(behavior), length)
        tokens = np.zeros((length, len(EVENT_FIELDS)), dtype=np.int32)
        times = np.zeros(length, dtype=np.int64)
        if kept:
            tokens[:kept] = behavior.tokens[-kept:]
            times[:kept] = behavior.event_times[-kept:]
        return Behavior(tokens, times)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of everything that decides an id: equal if and only if two tokenizers agree."""
        digest = hashlib.sha256(json.dumps(self._scalars(), sort_keys=True).encode())
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Writes the tokenizer into a folder, which is made; `load` reads it back."""
        folder.mkdir(parents=True, exist_ok=True)
        scalars = {**self._scalars(), "fingerprint": self.fingerprint}
        (folder / "tokenizer.json").write_text(json.dumps(scalars), encoding="utf-8")
        with (folder / "arrays.npz").open("wb") as file:
            np.savez(file, allow_pickle=False, **self._arrays())

    @classmethod
    def load(cls, folder: Path) -> BehaviorTokenizer:
        """Reads a saved tokenizer. Raises TokenizerError when it is missing or damaged."""
        try:
            scalars = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            # Opened here, because np.load leaves a damaged archive open.
            with (
                (folder / "arrays.npz").open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                tokenizer = cls._from_saved(scalars, arrays)
            if tokenizer.fingerprint != scalars["fingerprint"]:
                raise TokenizerError("it is damaged, its fingerprint differs")
        except Exception as error:  # A damaged archive raises errors of many kinds.
            raise TokenizerError(
                f"the behavior tokenizer in {folder} cannot be read: {error}"
            ) from error
        return tokenizer

    @classmethod
    def _from_saved(
        cls, scalars: dict[str, object], arrays: Mapping[str, NDArray[np.generic]]
    ) -> BehaviorTokenizer:
        if scalars["format_version"] != FORMAT_VERSION:
            raise TokenizerError(
                f"format version {scalars['format_version']}, this program reads {FORMAT_VERSION}"
            )
        words = {name: Vocabulary(tuple(scalars[name])) for name in _VOCABULARIES}  # type: ignore[arg-type]
        return cls(
            **words,
            codebook=ContentCodebook(arrays["centroids"].astype(np.float32)),
            price_edges=arrays["price_edges"].astype(np.float64),
            product_table=arrays["product_table"].astype(np.int32),
            max_events=int(scalars["max_events"]),  # type: ignore[call-overload]
        )

    def _scalars(self) -> dict[str, object]:
        vocabularies = {name: list(getattr(self, name).words) for name in _VOCABULARIES}
        return {"format_version": FORMAT_VERSION, "max_events": self.max_events, **vocabularies}

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {
            "centroids": self.codebook.centroids,
            "price_edges": self.price_edges,
            "product_table": self.product_table,
        }


_VOCABULARIES = ("event_types", "products", "categories", "brands")


def empty_product_table(products: Vocabulary) -> NDArray[np.int32]:
    """Returns the [products.size, 6] table in which no product has content yet."""
    return np.zeros((max(products.size, FIRST), N_CONTENT), dtype=np.int32)
