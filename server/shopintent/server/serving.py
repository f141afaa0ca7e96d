"""One release, opened: everything that answers from it, and nothing of any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from shopintent.server.catalog import Catalog
from shopintent.server.config import Config
from shopintent.server.guardrails import AnswerStats
from shopintent.server.hydrate import Hydrator
from shopintent.server.index import ProductIndex
from shopintent.server.inference import BehaviorModel, ContentEncoder, ModelRepository
from shopintent.server.metrics import Metrics
from shopintent.server.popular import PopularNow
from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.shelf import SHELVED, read_shelf
from shopintent.server.predict import IntentPredictor
from shopintent.server.ranking import RankWeights
from shopintent.server.recommend import Recommender
from shopintent.server.releases import Release, ReleaseMonitor, release_checks


@dataclass(frozen=True, eq=False)
class Backends:
    """What a release asks; production has Triton and an index, tests have fakes."""

    model: BehaviorModel
    encoder: ContentEncoder
    repository: ModelRepository
    index: ProductIndex


@dataclass(eq=False)
class InFlight:
    """Counts the requests that a release is answering, so that it is closed after the last."""

    count: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *exc_info: object) -> None:
        self.count -= 1
        if not self.count:
            self.idle.set()

    async def drained(self) -> None:
        """Returns when no request is being answered."""
        while self.count:
            self.idle.clear()
            await self.idle.wait()


@dataclass(frozen=True, eq=False)
class ServingRelease:
    """Everything that answers from one release; make it with `serve_release`."""

    release: Release
    backends: Backends
    monitor: ReleaseMonitor
    popular: PopularNow
    hydrator: Hydrator
    predictor: IntentPredictor
    recommender: Recommender
    catalog: Catalog
    close: Callable[[], Awaitable[None]]
    """Lets go of the index and of whatever else was opened for it."""
    in_flight: InFlight = field(default_factory=InFlight)
    stats: AnswerStats = field(default_factory=AnswerStats)

    @property
    def release_id(self) -> str:
        """The id that every answer names."""
        return self.release.release_id


def serve_release(
    config: Config,
    release: Release,
    backends: Backends,
    weights: Mapping[str, RankWeights],
    close: Callable[[], Awaitable[None]],
    metrics: Metrics | None = None,
    popularity: Popularity | None = None,
) -> ServingRelease:
    """Puts together what answers from a release, which reads some of its products.

    Releases that are served side by side view the same `popularity`. Raises ReleaseError.
    """
    metrics = metrics or Metrics()
    monitor = ReleaseMonitor(
        release_checks(
            release, backends.repository, backends.index, timeout_s=config.check_timeout_s
        )
    )
    popularity = popularity or Popularity(capacity=config.popular_products)
    shelf = read_shelf(
        release.folder,
        overall=config.popular_products,
        total=SHELVED * config.popular_products,
    )
    popular = PopularNow.from_release(release.manifest, shelf, popularity)
    hydrator = Hydrator(
        tokenizer=release.tokenizer,
        index=backends.index,
        encoder=backends.encoder,
        monitor=monitor,
        max_cached=config.max_cached,
        max_age_s=config.cache_max_age_s,
    )
    return ServingRelease(
        release=release,
        backends=backends,
        monitor=monitor,
        popular=popular,
        hydrator=hydrator,
        predictor=IntentPredictor(release, backends.model, hydrator, monitor, metrics),
        recommender=Recommender(
            model=backends.model,
            index=backends.index,
            popular=popular,
            hydrator=hydrator,
            monitor=monitor,
            weights=weights,
            metrics=metrics,
        ),
        catalog=Catalog(
            release=release,
            index=backends.index,
            encoder=backends.encoder,
            hydrator=hydrator,
            popular=popular,
            monitor=monitor,
        ),
        close=close,
    )
