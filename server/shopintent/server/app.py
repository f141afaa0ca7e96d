"""Builds everything once and runs it; the only module that knows every folder."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from tokenizers import Tokenizer

from shopintent.artifacts import ReleaseError, ReleasesRoot
from shopintent.artifacts.routing import Routing, RoutingError, read_routing
from shopintent.server.config import (
    Config,
    read_placements,
    read_qdrant_api_key,
)
from shopintent.server.errors import ShopIntentError
from shopintent.server.index import ProductIndex
from shopintent.server.index.edge import EdgeProductIndex
from shopintent.server.index.qdrant import QdrantProductIndex, connect, load_collection
from shopintent.server.inference.triton import (
    CHANNEL_OPTIONS,
    TritonBehaviorModel,
    TritonContentEncoder,
    TritonRepository,
)
from shopintent.server.listening import bind, grpc_server
from shopintent.server.metrics import Metrics
from shopintent.server.releases import Component, Release, load_release
from shopintent.server.services.catalog import CatalogService
from shopintent.server.services.events import EventService
from shopintent.server.services.health import SERVICES, publish_health
from shopintent.server.services.recommendation import RecommendationService
from shopintent.server.serving import Backends, ServingRelease, serve_release
from shopintent.server.sessions import SessionStore
from shopintent.server.sessions.memory import InMemorySessions
from shopintent.server.traffic import Traffic
from shopintent.v1 import (
    catalog_service_pb2_grpc,
    event_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)

logger = logging.getLogger(__name__)


class App:
    """The gRPC server: answers from the releases that take traffic."""

    def __init__(
        self,
        config: Config,
        sessions: SessionStore,
        traffic: Traffic,
        metrics: Metrics | None = None,
    ) -> None:
        self._config = config
        self.traffic = traffic
        self._health = health_aio.HealthServicer()
        self._server = grpc_server(config, metrics)
        self._logged_serving = False
        self._background: list[asyncio.Task[None]] = []
        self._add_services(sessions)

    async def start(self) -> int:
        """Listens and starts the checks; returns the port. Serving begins when they succeed."""
        await publish_health(self._health, self.traffic.serving.monitor)
        port = bind(self._server, self._config)
        await self._server.start()
        self._background = [
            asyncio.create_task(self._watch_releases()),
            asyncio.create_task(self._refresh_popular()),
        ]
        return port

    async def check(self) -> None:
        """Checks every release now and publishes what was found of the one that serves."""
        await asyncio.gather(*(release.monitor.check() for release in self.traffic.ready))
        monitor = self.traffic.serving.monitor
        if monitor.serving != self._logged_serving:
            self._logged_serving = monitor.serving
            logger.warning("serving" if monitor.serving else "not serving")
        await publish_health(self._health, monitor)

    async def stop(self) -> None:
        """Drains: health turns to NOT_SERVING, running calls get `grace_s` seconds to finish."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._config.grace_s)

    async def _watch_releases(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(self._config.check_interval_s)

    async def _refresh_popular(self) -> None:
        """Lets popular products rise, and go when another server deleted them."""
        while True:
            await asyncio.sleep(self._config.popular_refresh_s)
            for release in self.traffic.ready:
                if release.monitor.serving and Component.INDEX not in release.monitor.down:
                    with suppress(ShopIntentError):
                        await release.popular.refresh(
                            release.backends.index, timeout_s=self._config.check_timeout_s
                        )

    def _add_services(self, sessions: SessionStore) -> None:
        config, server, traffic = self._config, self._server, self.traffic
        recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server(
            RecommendationService(sessions, traffic, config.answer_timeout_s), server
        )
        event_service_pb2_grpc.add_EventServiceServicer_to_server(
            EventService(sessions, traffic, config.answer_timeout_s), server
        )
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(
            CatalogService(traffic, config.catalog_timeout_s), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflected = (*SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, server)


async def serve(
    config: Config, metrics: Metrics, on_listening: Callable[[str, str], None] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Raises ConfigError and ReleaseError.

    `on_listening` is told the address and the id of the serving release.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        triton = await stack.enter_async_context(
            grpc.aio.insecure_channel(config.triton_address, options=CHANNEL_OPTIONS)
        )
        opener = ReleaseOpener(config, triton)
        first = await opener.open(load_release(ReleasesRoot(config.releases), config.release))
        traffic = Traffic(first, Routing(first.release_id), open_release=opener.open_by_id)
        stack.push_async_callback(traffic.close)
        sessions = _open_sessions(config)
        stack.push_async_callback(sessions.close)
        app = App(config, sessions, traffic, metrics)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        port = await app.start()
        stack.push_async_callback(app.stop)
        if not config.release:
            following = asyncio.create_task(_follow_routing(config, traffic))
            stack.callback(following.cancel)
        address = f"{config.listen.rpartition(':')[0]}:{port}"
        fields = {"release": first.release_id, "address": address}
        logger.info("listening", extra={"fields": fields})
        if on_listening is not None:
            on_listening(address, first.release_id)
        await stopped.wait()
        logger.info("draining", extra={"fields": {"grace_s": config.grace_s}})


async def _follow_routing(config: Config, traffic: Traffic) -> None:
    """Takes over every change of routing.json, for as long as the server runs."""
    complained = ""
    while True:
        try:
            routing = await asyncio.to_thread(read_routing, config.releases)
            if routing is not None and routing != traffic.routing:
                traffic.follow(routing)
        except RoutingError as error:
            if str(error) != complained:
                complained = str(error)
                logger.error("%s; going on as before", error)
        await asyncio.sleep(config.routing_interval_s)


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


def _open_sessions(config: Config) -> SessionStore:
    return InMemorySessions(
        max_visitors=config.max_visitors,
        max_events=config.max_session_events,
        idle_s=config.session_idle_s,
    )


class ReleaseOpener:
    """Opens releases of the releases root with Triton and the configured index."""

    def __init__(self, config: Config, triton: grpc.aio.Channel) -> None:
        self._config = config
        self._triton = triton
        self._weights = read_placements(config.placements)

    async def open_by_id(self, release_id: str) -> ServingRelease:
        """Reads a release of the root and opens it. Raises ReleaseError and IndexUnavailable."""
        root = ReleasesRoot(self._config.releases)
        return await self.open(await asyncio.to_thread(load_release, root, release_id))

    async def open(self, release: Release) -> ServingRelease:
        """Opens a release; it is not verified yet. Raises ReleaseError and IndexUnavailable."""
        text_tokenizer = _read_text_tokenizer(release.folder.text_tokenizer)
        index = await _open_index(self._config, release)
        manifest = release.manifest
        backends = Backends(
            model=TritonBehaviorModel(
                self._triton,
                model_name=release.intent_model,
                max_events=release.tokenizer.max_events,
                n_actions=len(manifest.actions),
                n_horizons=len(manifest.horizons_s),
                embedding_size=manifest.embedding_size,
                answers=manifest.answers,
            ),
            encoder=TritonContentEncoder(
                self._triton,
                text_encoder=release.text_encoder,
                product_encoder=release.product_encoder,
                text_tokenizer=text_tokenizer,
                max_text_tokens=manifest.max_text_tokens,
                text_embedding_size=manifest.text_embedding_size,
                embedding_size=manifest.embedding_size,
            ),
            repository=TritonRepository(
                self._triton, self._config.triton_model_control_key or None
            ),
            index=index,
        )
        return serve_release(self._config, release, backends, self._weights, index.close)


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
