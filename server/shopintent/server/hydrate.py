"""Turns what a visitor did into the tokens the intent model reads.

Products of the release carry their content in the tokenizer. Only what training never saw is
looked up: products in the index, search queries in the text encoder. Both are cached, and what
does not come in time is left out and named.

The tokens of a history are kept with it: they are computed when its last event is tracked, and a
prediction finds them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from shopintent.behavior import Behavior, BehaviorTokenizer, Event
from shopintent.behavior.events import SEARCH
from shopintent.behavior.vocabulary import UNKNOWN
from shopintent.server.cache import LruCache
from shopintent.server.errors import IndexUnavailable, ModelUnavailable, ReleaseMismatch
from shopintent.server.index import ProductIndex
from shopintent.server.inference import ContentEncoder
from shopintent.server.releases import Component, ReleaseMonitor
from shopintent.server.sessions import History

_event_time = attrgetter("event_time")


class Degraded(StrEnum):
    """Why an answer is less than it could be."""

    MODEL_UNAVAILABLE = "model-unavailable"
    INDEX_UNAVAILABLE = "index-unavailable"
    TEXT_ENCODER_UNAVAILABLE = "text-encoder-unavailable"
    BEHAVIOR_UNAVAILABLE = "behavior-unavailable"
    INTENT_UNAVAILABLE = "intent-unavailable"


@dataclass(frozen=True, eq=False)
class HydratedBehavior:
    """A visitor's behavior, ready for the model."""

    behavior: Behavior
    """At most the tokenizer's `max_events` events, not padded."""
    newest_event_time: int
    """Of the last event, in unix seconds; 0 without events."""
    degraded: frozenset[Degraded]
    """What had to be left out."""


@dataclass(frozen=True, eq=False)
class _CatalogEntry:
    """What the index said of a product; no content when it does not hold the product."""

    content: NDArray[np.int32] | None


@dataclass(frozen=True, eq=False)
class _Held:
    """A behavior that needs nothing left out, and until when it may be used."""

    hydrated: HydratedBehavior
    writes: int
    """Of the catalog that were seen when it was made."""
    ends_at: float


class Hydrator:
    """Finds the content of products and queries that the release was not trained with.

    `max_age_s` bounds how long another server's catalog writes may go unseen; those of this server
    are told by `forget`.
    """

    def __init__(
        self,
        *,
        tokenizer: BehaviorTokenizer,
        index: ProductIndex,
        encoder: ContentEncoder,
        monitor: ReleaseMonitor,
        max_cached: int = 100_000,
        max_age_s: float = 60.0,
    ) -> None:
        self._tokenizer = tokenizer
        self._index = index
        self._encoder = encoder
        self._monitor = monitor
        self._entries: LruCache[str, _CatalogEntry] = LruCache(
            max_entries=max_cached, max_age_s=max_age_s
        )
        # The codes of a query never change inside a release.
        self._query_codes: LruCache[str, NDArray[np.int32]] = LruCache(max_entries=max_cached)
        # As old as a product may be: a history may hold products of which others write.
        self._max_age_s = max_age_s
        self._writes = 0
        self._held: WeakKeyDictionary[History, _Held] = WeakKeyDictionary()

    async def hydrate(self, history: History, *, timeout_s: float) -> HydratedBehavior:
        """Returns the behavior of a history; never fails for what can not be looked up."""
        held = self._held.get(history)
        if held and held.writes == self._writes and time.monotonic() < held.ends_at:
            return held.hydrated
        writes, started = self._writes, time.monotonic()
        hydrated = await self._hydrate(history.events, timeout_s)
        if not hydrated.degraded:
            self._held[history] = _Held(hydrated, writes, started + self._max_age_s)
        return hydrated

    async def _hydrate(self, events: Sequence[Event], timeout_s: float) -> HydratedBehavior:
        newest = sorted(events, key=_event_time)[-self._tokenizer.max_events :]
        unseen = {e.product_id for e in newest if e.event_type != SEARCH and self._is_unseen(e)}
        queries = {event.search_query for event in newest if event.event_type == SEARCH}
        (entries, index_answered), (codes, encoder_answered) = await self._look_up_both(
            unseen, queries, timeout_s
        )
        content = {key: entry.content for key, entry in entries.items()}
        behavior = self._tokenizer.encode(
            newest,
            unseen_products={key: value for key, value in content.items() if value is not None},
            query_codes=codes,
        )
        left_out = {
            Degraded.INDEX_UNAVAILABLE: not index_answered,
            Degraded.TEXT_ENCODER_UNAVAILABLE: not encoder_answered,
        }
        return HydratedBehavior(
            behavior=behavior,
            newest_event_time=newest[-1].event_time if newest else 0,
            degraded=frozenset(reason for reason, missing in left_out.items() if missing),
        )

    async def warm(self, events: Sequence[Event], *, timeout_s: float) -> list[str]:
        """Looks up what later predictions on these events need.

        Returns the product ids that the catalog does not know, in order of appearance; none when
        the index does not answer.
        """
        product_ids = list(dict.fromkeys(e.product_id for e in events if e.product_id))
        queries = {event.search_query for event in events if event.event_type == SEARCH}
        (entries, _), _ = await self._look_up_both(set(product_ids), queries, timeout_s)
        return [key for key in product_ids if key in entries and entries[key].content is None]

    def forget(self, product_ids: Sequence[str]) -> None:
        """Drops what is cached of products that were just written or deleted."""
        self._writes += 1
        for product_id in product_ids:
            self._entries.discard(product_id)

    def _is_unseen(self, event: Event) -> bool:
        return self._tokenizer.products.lookup(event.product_id) == UNKNOWN

    async def _look_up_both(
        self, product_ids: set[str], queries: set[str], timeout_s: float
    ) -> tuple[tuple[dict[str, _CatalogEntry], bool], tuple[dict[str, NDArray[np.int32]], bool]]:
        """Returns what `_look_up` and `_encode_queries` do, both at once where both must wait."""
        if not queries:
            return await self._look_up(product_ids, timeout_s), ({}, True)
        if not product_ids:
            return ({}, True), await self._encode_queries(queries, timeout_s)
        return await asyncio.gather(
            self._look_up(product_ids, timeout_s), self._encode_queries(queries, timeout_s)
        )

    async def _look_up(
        self, product_ids: set[str], timeout_s: float
    ) -> tuple[dict[str, _CatalogEntry], bool]:
        """Returns what is known of the products, and whether the index answered if asked."""
        cached = {key: self._entries.get(key) for key in product_ids}
        entries = {key: entry for key, entry in cached.items() if entry is not None}
        missing = [key for key in product_ids if key not in entries]
        if not missing:
            return entries, True
        try:
            self._monitor.ensure_up(Component.INDEX)
            found = await self._index.get(missing, timeout_s=timeout_s)
        except (IndexUnavailable, ReleaseMismatch):
            return entries, False
        for key in missing:
            entry = _CatalogEntry(found[key].content if key in found else None)
            self._entries.put(key, entry)
            entries[key] = entry
        return entries, True

    async def _encode_queries(
        self, queries: set[str], timeout_s: float
    ) -> tuple[dict[str, NDArray[np.int32]], bool]:
        """Returns the codes of the queries, and whether the text encoder answered if asked."""
        cached = {query: self._query_codes.get(query) for query in queries}
        codes = {query: held for query, held in cached.items() if held is not None}
        missing = [query for query in queries if query not in codes]
        if not missing:
            return codes, True
        try:
            self._monitor.ensure_up(Component.ENCODERS)
            embeddings = await self._encoder.encode_texts(missing, timeout_s=timeout_s)
        except (ModelUnavailable, ReleaseMismatch):
            return codes, False
        encoded = self._tokenizer.codebook.encode(embeddings)
        for query, row in zip(missing, encoded, strict=True):
            self._query_codes.put(query, row)
            codes[query] = row
        return codes, True
