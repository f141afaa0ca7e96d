"""Builds everything once and runs it; the only module that knows every folder."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from tokenizers import Tokenizer

from shopintent.artifacts import ReleaseError, ReleasesRoot
from shopintent.artifacts.products import read_first_products
from shopintent.server.catalog import Catalog
from shopintent.server.config import (
    Config,
    check_listen,
    read_placements,
    read_qdrant_api_key,
)
from shopintent.server.errors import ShopIntentError
from shopintent.server.hydrate import Hydrator
from shopintent.server.index import ProductIndex
from shopintent.server.index.edge import EdgeProductIndex
from shopintent.server.index.qdrant import QdrantProductIndex, connect, load_collection
from shopintent.server.inference import BehaviorModel, ContentEncoder, ModelRepository
from shopintent.server.inference.triton import (
    CHANNEL_OPTIONS,
    TritonBehaviorModel,
    TritonContentEncoder,
    TritonRepository,
)
from shopintent.server.listening import bind, grpc_server, write_ready_file
from shopintent.server.popular import PopularNow
from shopintent.server.predict import IntentPredictor
from shopintent.server.ranking import RankWeights
from shopintent.server.recommend import Recommender
from shopintent.server.releases import (
    Component,
    Release,
    ReleaseMonitor,
    load_release,
    release_checks,
)
from shopintent.server.services.catalog import CatalogService
from shopintent.server.services.events import EventService
from shopintent.server.services.health import SERVICES, publish_health
from shopintent.server.services.recommendation import RecommendationService
from shopintent.server.sessions import SessionStore
from shopintent.server.sessions.memory import InMemorySessions
from shopintent.v1 import (
    catalog_service_pb2_grpc,
    event_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Backends:
    """Everything the server asks; production has Triton and an index, tests have fakes."""

    model: BehaviorModel
    encoder: ContentEncoder
    repository: ModelRepository
    index: ProductIndex
    sessions: SessionStore


class App:
    """The gRPC server of one release."""

    def __init__(self, config: Config, release: Release, backends: Backends) -> None:
        self._config = config
        self._backends = backends
        self.monitor = ReleaseMonitor(
            release_checks(
                release,
                backends.repository,
                backends.index,
                timeout_s=config.check_timeout_s,
            )
        )
        self.popular = PopularNow.from_release(
            release.manifest,
            [each.product for each in read_first_products(release.folder, config.popular_products)],
            capacity=config.popular_products,
        )
        self._health = health_aio.HealthServicer()
        self._server = grpc_server(config)
        self._logged_serving = False
        self._background: list[asyncio.Task[None]] = []
        self._add_services(release, read_placements(config.placements))

    async def start(self) -> int:
        """Listens and starts the checks; returns the port. Serving begins when they succeed."""
        await publish_health(self._health, self.monitor)
        port = bind(self._server, self._config)
        await self._server.start()
        self._background = [
            asyncio.create_task(self._watch_release()),
            asyncio.create_task(self._refresh_popular()),
        ]
        return port

    async def check(self) -> None:
        """Checks the release now and publishes what was found."""
        await self.monitor.check()
        if self.monitor.serving != self._logged_serving:
            self._logged_serving = self.monitor.serving
            logger.warning("serving" if self.monitor.serving else "not serving")
        await publish_health(self._health, self.monitor)

    async def stop(self) -> None:
        """Drains: health turns to NOT_SERVING, running calls get `grace_s` seconds to finish."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._config.grace_s)

    async def _watch_release(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(self._config.check_interval_s)

    async def _refresh_popular(self) -> None:
        """Lets popular products rise, and go when another server deleted them."""
        while True:
            await asyncio.sleep(self._config.popular_refresh_s)
            if self.monitor.serving and Component.INDEX not in self.monitor.down:
                with suppress(ShopIntentError):
                    await self.popular.refresh(
                        self._backends.index, timeout_s=self._config.check_timeout_s
                    )

    def _add_services(self, release: Release, weights: Mapping[str, RankWeights]) -> None:
        config, server, backends = self._config, self._server, self._backends
        hydrator = Hydrator(
            tokenizer=release.tokenizer,
            index=backends.index,
            encoder=backends.encoder,
            monitor=self.monitor,
            max_cached=config.max_cached,
            max_age_s=config.cache_max_age_s,
        )
        recommendation = RecommendationService(
            release=release,
            sessions=backends.sessions,
            predictor=IntentPredictor(release, backends.model, hydrator, self.monitor),
            recommender=Recommender(
                model=backends.model,
                index=backends.index,
                popular=self.popular,
                hydrator=hydrator,
                monitor=self.monitor,
                weights=weights,
            ),
            timeout_s=config.answer_timeout_s,
        )
        events = EventService(backends.sessions, self.popular, hydrator, config.answer_timeout_s)
        catalog = CatalogService(
            Catalog(
                release=release,
                index=backends.index,
                encoder=backends.encoder,
                hydrator=hydrator,
                popular=self.popular,
                monitor=self.monitor,
            ),
            config.catalog_timeout_s,
        )
        recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server(
            recommendation, server
        )
        event_service_pb2_grpc.add_EventServiceServicer_to_server(events, server)
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflected = (*SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, server)


async def serve(config: Config, *, ready_file: Path | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Raises ConfigError and ReleaseError."""
    check_listen(config)
    release = load_release(ReleasesRoot(config.releases), config.release)
    async with AsyncExitStack() as stack:
        backends = await _open_backends(config, release, stack)
        app = App(config, release, backends)
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        port = await app.start()
        stack.push_async_callback(app.stop)
        address = f"{config.listen.rpartition(':')[0]}:{port}"
        fields = {"release": release.release_id, "address": address}
        logger.info("listening", extra={"fields": fields})
        if ready_file is not None:
            write_ready_file(ready_file, address, release.release_id)
        await stopped.wait()
        logger.info("draining", extra={"fields": {"grace_s": config.grace_s}})


async def load_index(config: Config, on_progress: Callable[[int, int], None]) -> Release:
    """Loads the release's products into the configured index and returns the release.

    What is there already is not loaded again. `on_progress` is told (done, total) products.
    """
    release = load_release(ReleasesRoot(config.releases), config.release)
    if config.index == "edge":
        edge = await asyncio.to_thread(_open_edge, config, release, on_progress)
        await edge.close()
        return release
    client = connect(config.qdrant_url, api_key=read_qdrant_api_key(config))
    try:
        await load_collection(client, release.folder, release.manifest, on_progress=on_progress)
    finally:
        await client.close()
    return release


async def _open_backends(config: Config, release: Release, stack: AsyncExitStack) -> Backends:
    """Opens what the configuration names; the stack closes it."""
    channel = await stack.enter_async_context(
        grpc.aio.insecure_channel(config.triton_address, options=CHANNEL_OPTIONS)
    )
    index = await _open_index(config, release)
    stack.push_async_callback(index.close)
    sessions = InMemorySessions(
        max_visitors=config.max_visitors,
        max_events=config.max_session_events,
        idle_s=config.session_idle_s,
    )
    manifest = release.manifest
    return Backends(
        model=TritonBehaviorModel(
            channel,
            model_name=release.intent_model,
            n_actions=len(manifest.actions),
            n_horizons=len(manifest.horizons_s),
            embedding_size=manifest.embedding_size,
        ),
        encoder=TritonContentEncoder(
            channel,
            text_encoder=release.text_encoder,
            product_encoder=release.product_encoder,
            text_tokenizer=_read_text_tokenizer(release.folder.text_tokenizer),
            max_text_tokens=manifest.max_text_tokens,
            text_embedding_size=manifest.text_embedding_size,
            embedding_size=manifest.embedding_size,
        ),
        repository=TritonRepository(channel),
        index=index,
        sessions=sessions,
    )


async def _open_index(config: Config, release: Release) -> ProductIndex:
    if config.index == "edge":
        logger.info("opening the index", extra={"fields": {"release": release.release_id}})
        return await asyncio.to_thread(_open_edge, config, release, None)
    client = connect(config.qdrant_url, api_key=read_qdrant_api_key(config))
    return QdrantProductIndex(client, release.manifest)


def _open_edge(
    config: Config, release: Release, on_progress: Callable[[int, int], None] | None
) -> EdgeProductIndex:
    path = config.index_path or config.releases / "index"
    return EdgeProductIndex.open(path, release.folder, release.manifest, on_progress=on_progress)


def _read_text_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises nothing narrower.
        raise ReleaseError(f"{path} cannot be read: {error}; publish the release again") from error
