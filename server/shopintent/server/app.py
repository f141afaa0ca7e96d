"""Builds everything once and runs it; the only module that knows every folder."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from shopintent.artifacts.routing import Routing
from shopintent.server.catalog_journal import CatalogJournal
from shopintent.server.catalog_writes import CatalogWriter, catch_up
from shopintent.server.config import (
    Config,
    popularity_file,
    read_release_token,
    read_visitor_token,
    state_folder,
)
from shopintent.server.deletion import VisitorEraser
from shopintent.server.event_log.draining import LogDrainer
from shopintent.server.event_log.products import ProductsFile
from shopintent.server.garbage import spare_what_stays
from shopintent.server.interceptors import Calls
from shopintent.server.interceptors.admission import Admission
from shopintent.server.interceptors.streams import Streams
from shopintent.server.listening import bind, grpc_server
from shopintent.server.lookout import Lookout
from shopintent.server.metrics import Metrics
from shopintent.server.opening import ReleaseOpener, triton_of
from shopintent.server.permission import release_permission, visitor_permission
from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.keeping import PopularityKeeper
from shopintent.server.popularity.refreshing import refresh_popular
from shopintent.server.popularity.snapshot_file import SnapshotFile
from shopintent.server.readiness import prove_ready
from shopintent.server.release_control import (
    current_routing,
    follow_routing,
    release_manager,
    unload_unnamed,
    watch_canary,
)
from shopintent.server.releases.manager import ReleaseManager
from shopintent.server.services.catalog import CatalogService
from shopintent.server.services.events import EventService
from shopintent.server.services.health import SERVICES, publish_health
from shopintent.server.services.recommendation import RecommendationService
from shopintent.server.services.recording import Recorder
from shopintent.server.services.releases import ReleaseService
from shopintent.server.services.visitors import VisitorService
from shopintent.server.serving import ServingRelease
from shopintent.server.sessions import RecordSource, SessionStore
from shopintent.server.sessions.redis import RedisSessions
from shopintent.server.stores import (
    logs_events,
    open_event_log,
    open_pseudonyms,
    open_sessions,
)
from shopintent.server.traffic import Traffic
from shopintent.v1 import (
    catalog_service_pb2_grpc,
    event_service_pb2_grpc,
    recommendation_service_pb2_grpc,
    release_service_pb2_grpc,
    visitor_service_pb2_grpc,
)

logger = logging.getLogger(__name__)


class App:
    """The gRPC server: answers from the releases that take traffic."""

    def __init__(
        self,
        config: Config,
        sessions: SessionStore,
        journal: CatalogJournal,
        traffic: Traffic,
        metrics: Metrics | None = None,
        manager: ReleaseManager | None = None,
        eraser: VisitorEraser | None = None,
        keeper: PopularityKeeper | None = None,
    ) -> None:
        """Puts the server together; without a manager it has no ReleaseService, without an eraser
        no VisitorService, and without a keeper it does not count what is popular.
        """
        self._config = config
        self._keeper = keeper
        self.traffic = traffic
        self.catalog = CatalogWriter(journal, traffic)
        self._health = health_aio.HealthServicer()
        self._metrics = metrics or Metrics()
        admission = Admission(most=config.max_concurrent_rpcs, timeout_s=config.answer_timeout_s)
        self._streams = Streams(most=config.max_streams)
        self._calls = Calls(self._metrics, admission, self._streams)
        self._add_services(self._calls, sessions, manager, eraser)
        self._server = grpc_server(config, self._calls)
        self._lookout = Lookout(self._server, admission)
        self._logged_serving = False
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Listens and starts the checks; returns the port. Serving begins when they succeed."""
        await publish_health(self._health, self.traffic.serving.monitor)
        port = bind(self._server, self._config)
        self._lookout.listen()
        if self._keeper is not None:
            await self._keeper.begin()
        await self._server.start()
        self._background = [
            asyncio.create_task(self._lookout.run()),
            asyncio.create_task(self._watch_releases()),
            asyncio.create_task(
                refresh_popular(
                    self.traffic,
                    every_s=self._config.popular_refresh_s,
                    timeout_s=self._config.check_timeout_s,
                )
            ),
            asyncio.create_task(self.catalog.follow()),
        ]
        if self._keeper is not None:
            self._background.append(asyncio.create_task(self._keeper.run()))
        return port

    async def check(self) -> None:
        """Checks every release now and publishes what was found of the one that serves."""
        await asyncio.gather(*(release.monitor.check() for release in self.traffic.ready))
        self._metrics.releases(self.traffic.roles())
        monitor = self.traffic.serving.monitor
        if monitor.serving != self._logged_serving:
            self._logged_serving = monitor.serving
            logger.warning("serving" if monitor.serving else "not serving")
        await publish_health(self._health, monitor)

    async def stop(self) -> None:
        """Drains: health turns to NOT_SERVING, streams are told to go on elsewhere, and running
        calls get `grace_s` seconds to finish.
        """
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._lookout.close()
        await self._health.enter_graceful_shutdown()
        self._streams.drain()
        await self._server.stop(self._config.grace_s)
        self._calls.close()
        if self._keeper is not None:
            await self._keeper.close()

    async def _watch_releases(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(self._config.check_interval_s)

    def _add_services(
        self,
        server: Any,
        sessions: SessionStore,
        manager: ReleaseManager | None,
        eraser: VisitorEraser | None,
    ) -> None:
        """Adds services to what takes them as a server does."""
        config, traffic = self._config, self.traffic
        recorder = Recorder(sessions, self._keeper.wake if self._keeper else None)
        recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server(
            RecommendationService(
                sessions, traffic, recorder, config.answer_timeout_s, self._metrics
            ),
            server,
        )
        event_service_pb2_grpc.add_EventServiceServicer_to_server(
            EventService(sessions, traffic, recorder, config.answer_timeout_s), server
        )
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(
            CatalogService(traffic, self.catalog, config.catalog_timeout_s), server
        )
        if manager is not None:
            permission = release_permission(read_release_token(config))
            release_service_pb2_grpc.add_ReleaseServiceServicer_to_server(
                ReleaseService(manager, traffic, permission), server
            )
        if eraser is not None:
            permission = visitor_permission(read_visitor_token(config))
            visitor_service_pb2_grpc.add_VisitorServiceServicer_to_server(
                VisitorService(eraser, permission), server
            )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflected = (*SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, server)


async def serve(
    config: Config,
    metrics: Metrics,
    on_listening: Callable[[str, str], None] | None = None,
    *,
    worker: int = 0,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Raises ConfigError and ReleaseError.

    `on_listening` is told the address and the id of the serving release. Of several processes that
    serve together each is another `worker`, counted from 0.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        triton = await stack.enter_async_context(triton_of(config))
        popularity = Popularity(capacity=config.popular_products)
        opener = ReleaseOpener(config, triton, worker, metrics, popularity)
        if config.releases_url:
            await asyncio.to_thread(current_routing, config)
        first = await opener.open_by_id(config.release)

        async def prove(release: ServingRelease) -> None:
            await prove_ready(release)
            # What was written since the release was made must not go back when it takes over.
            await catch_up(release, journal)

        journal = CatalogJournal.open(state_folder(config) / "catalog.sqlite")
        stack.push_async_callback(journal.close)
        traffic = Traffic(
            first,
            Routing(first.release_id),
            open_release=opener.open_by_id,
            prove=prove,
            on_closed=lambda release: unload_unnamed(config, opener, release.release_id),
        )
        stack.push_async_callback(traffic.close)
        pseudonyms = open_pseudonyms(config)
        sessions = open_sessions(config, pseudonyms)
        stack.push_async_callback(sessions.close)
        if isinstance(sessions, RedisSessions):
            await sessions.check()
        log = open_event_log(config)
        eraser = VisitorEraser(sessions, pseudonyms, log)
        if log is not None and logs_events(config) and isinstance(sessions, RecordSource):
            drainer = LogDrainer(
                log,
                sessions,
                metrics,
                kept_days=config.event_log_days,
                products=ProductsFile(journal, log.folder),
            )
            drainer.start()
            stack.push_async_callback(drainer.close)
        manager = release_manager(config, opener, traffic)
        snapshots = SnapshotFile(popularity_file(config))
        # Opening releases takes long, and sessions tell only of the last minute.
        counted_until = await asyncio.to_thread(snapshots.restore, popularity)
        keeper = PopularityKeeper(
            popularity,
            sessions,
            lambda product_id: traffic.serving.popular.category_of(product_id),
            snapshots,
            position=counted_until,
        )
        app = App(config, sessions, journal, traffic, metrics, manager, eraser, keeper)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        port = await app.start()
        stack.push_async_callback(app.stop)
        spare_what_stays()
        if not config.release:
            for work in (
                follow_routing(config, traffic),
                watch_canary(config, traffic, manager),
            ):
                stack.callback(asyncio.create_task(work).cancel)
        address = f"{config.listen.rpartition(':')[0]}:{port}"
        fields = {"release": first.release_id, "address": address}
        logger.info("listening", extra={"fields": fields})
        if on_listening is not None:
            on_listening(address, first.release_id)
        await stopped.wait()
        logger.info("draining", extra={"fields": {"grace_s": config.grace_s}})
