"""Recommend: behavior -> model -> index -> rank -> select, with popular ones standing in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shopintent.server.deadlines import Deadline
from shopintent.server.errors import IndexUnavailable, ModelUnavailable
from shopintent.server.hydrate import Degraded, Hydrator
from shopintent.server.index import ProductFilter, ProductIndex
from shopintent.server.inference import BehaviorModel
from shopintent.server.metrics import Metrics
from shopintent.server.popular import PopularNow
from shopintent.server.predict import request_time
from shopintent.server.ranking import HOME, RankedProduct, RankWeights, rank
from shopintent.server.releases import Component, ReleaseMonitor
from shopintent.server.sessions import History
from shopintent.server.standin import stand_in

# Of the time left when the stage starts; what remains serves the fallback, which waits for nothing.
HYDRATE_SHARE = 0.25
MODEL_SHARE = 0.6
INDEX_SHARE = 0.8

POOL = 4
"""Candidates for each product of the page where popularity may reorder them."""


@dataclass(frozen=True)
class Query:
    """One call of Recommend."""

    history: History
    """The visitor's behavior, tracked and recent; without events for a cold start."""
    placement: str
    page_size: int
    product_filter: ProductFilter
    seen_products_included: bool = False

    def without_seen(self) -> ProductFilter:
        """Returns the filter that leaves out what the visitor has seen too."""
        excluded = self.product_filter.excluded_product_ids | self.history.product_ids
        return replace(self.product_filter, excluded_product_ids=excluded)


@dataclass(frozen=True)
class Answer:
    """The recommended products, best first."""

    products: list[RankedProduct]
    degraded: frozenset[Degraded] = frozenset()
    model_version: str = ""
    """Empty when no model took part."""


@dataclass(frozen=True, eq=False)
class Recommender:
    """Recommends products with one release."""

    model: BehaviorModel
    index: ProductIndex
    popular: PopularNow
    hydrator: Hydrator
    monitor: ReleaseMonitor
    weights: Mapping[str, RankWeights]
    """By placement; "home" must be there."""
    metrics: Metrics = field(default_factory=Metrics)

    async def recommend(self, query: Query, *, deadline: Deadline) -> Answer:
        """Returns the page. Raises only what keeps the whole release from answering."""
        self.monitor.ensure_serving()
        product_filter = query.product_filter
        if not query.seen_products_included and query.history.product_ids:
            product_filter = query.without_seen()
        if not query.history.events:
            return self._stand_in(query, product_filter, frozenset())
        try:
            return await self._personalized(query, product_filter, deadline)
        except ModelUnavailable:
            return self._stand_in(query, product_filter, frozenset({Degraded.MODEL_UNAVAILABLE}))
        except IndexUnavailable:
            return self._stand_in(query, product_filter, frozenset({Degraded.INDEX_UNAVAILABLE}))

    async def _personalized(
        self, query: Query, product_filter: ProductFilter, deadline: Deadline
    ) -> Answer:
        self.monitor.ensure_up(Component.INTENT_MODEL)
        self.monitor.ensure_up(Component.INDEX)
        weights = self.weights.get(query.placement, self.weights[HOME])
        laps = self.metrics.laps()
        hydrated = await self.hydrator.hydrate(
            query.history, timeout_s=deadline.share_s(HYDRATE_SHARE)
        )
        laps.ended("tokens")
        prediction = await self.model.predict(
            hydrated.behavior,
            request_time=request_time(hydrated),
            timeout_s=deadline.share_s(MODEL_SHARE),
        )
        laps.ended("model")
        candidates = await self.index.nearest(
            prediction.behavior_embedding,
            limit=query.page_size * (POOL if weights.popularity else 1),
            product_filter=product_filter,
            timeout_s=deadline.share_s(INDEX_SHARE),
        )
        laps.ended("index")
        ranked = rank(candidates, weights, popularity=self.popular.percentile)
        return Answer(
            ranked[: query.page_size],
            hydrated.degraded,
            prediction.model_version,
        )

    def _stand_in(
        self, query: Query, product_filter: ProductFilter, degraded: frozenset[Degraded]
    ) -> Answer:
        events = query.history.events
        return Answer(stand_in(self.popular, events, product_filter, query.page_size), degraded)
