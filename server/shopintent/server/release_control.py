"""Shifting traffic between releases: what the command line, the RPCs and the guardrails share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from shopintent.artifacts import ReleaseError, ReleasesRoot
from shopintent.artifacts.integrity import verify_release
from shopintent.artifacts.remote import fetch
from shopintent.artifacts.remote_routing import changing_remote_routing, pull_routing
from shopintent.artifacts.routing import Routing, RoutingError, read_routing, whoami
from shopintent.server.config import Config
from shopintent.server.errors import ReleaseNotReady, ShopIntentError
from shopintent.server.guardrails import Limits, objection
from shopintent.server.opening import ReleaseOpener, remove_collection, triton_of
from shopintent.server.readiness import metrics_objection, prove_ready
from shopintent.server.releases.manager import Reason, ReleaseManager
from shopintent.server.serving import ServingRelease
from shopintent.server.traffic import Traffic

logger = logging.getLogger(__name__)

WATCH_S = 0.5
"""Between looks at how a canary does."""
MANAGING = "managing"
"""Whose copy of a collection is opened to prove a release while servers have theirs."""
UNLOAD_AFTER_S = 10.0
"""Other servers take over a routing a little later, and may still ask a release of it."""


@asynccontextmanager
async def managing_releases(config: Config) -> AsyncIterator[ReleaseManager]:
    """Yields a manager of the releases root for a program that does not serve itself."""
    async with triton_of(config) as triton:
        yield release_manager(config, ReleaseOpener(config, triton, MANAGING))


def release_manager(
    config: Config, opener: ReleaseOpener, traffic: Traffic | None = None
) -> ReleaseManager:
    """Returns the manager of the releases root; what `traffic` has opened is not opened again."""
    root = ReleasesRoot(config.releases)
    # What follows the routing may open the same release meanwhile.
    aside = opener.beside() if traffic else opener
    one_at_a_time = asyncio.Lock()

    async def prove(release_id: str) -> None:
        async with one_at_a_time:
            opened = traffic.opened(release_id) if traffic else None
            if opened is None:
                await prove_aside(release_id)
            else:
                await verify_again(opened)
                await prove_ready(opened)

    async def verify_again(opened: ServingRelease) -> None:
        """Its files may have changed since it was opened, and it may have to be opened again."""
        try:
            await asyncio.to_thread(verify_release, root, opened.release_id)
        except ReleaseError as error:
            raise ReleaseNotReady(opened.release_id, str(error)) from error

    async def prove_aside(release_id: str) -> None:
        try:
            release = await aside.open_by_id(release_id)
        except (ReleaseError, ShopIntentError) as error:
            raise ReleaseNotReady(release_id, str(error)) from error
        try:
            await prove_ready(release)
        finally:
            await release.close()

    async def remove(release_id: str) -> None:
        await opener.unload_models(release_id)
        await remove_collection(config, release_id)

    if not config.releases_url:
        return ReleaseManager(root, prove, metrics_objection, remove)
    url = config.releases_url
    return ReleaseManager(
        root,
        prove,
        metrics_objection,
        remove,
        changing=partial(changing_remote_routing, url),
        bring=partial(_bring, url, root),
    )


def _bring(url: str, root: ReleasesRoot, release_id: str) -> None:
    fetch(release_id, url, root)


def current_routing(config: Config) -> Routing | None:
    """Returns the routing that holds, brought here first from where releases are published.

    Raises RoutingError, ReleaseError and OSError.
    """
    if config.releases_url:
        return pull_routing(config.releases_url, ReleasesRoot(config.releases))
    return read_routing(config.releases)


async def follow_routing(config: Config, traffic: Traffic) -> None:
    """Takes over every change of routing.json, for as long as the server runs."""
    complained = ""
    while True:
        try:
            routing = await asyncio.to_thread(current_routing, config)
            if routing is not None and routing != traffic.routing:
                traffic.follow(routing)
        except (RoutingError, ReleaseError, OSError) as error:
            if str(error) != complained:
                complained = str(error)
                logger.error("%s; going on as before", error)
        await asyncio.sleep(config.routing_interval_s)


async def watch_canary(config: Config, traffic: Traffic, manager: ReleaseManager) -> None:
    """Rolls a canary back that does worse than the limits allow, for as long as the server runs."""
    limits = Limits(
        min_requests=config.canary_min_requests,
        errors=config.canary_max_errors,
        degraded=config.canary_max_degraded,
        latency_ratio=config.canary_max_latency_ratio,
        intent_drift=config.canary_max_intent_drift,
    )
    while True:
        await asyncio.sleep(WATCH_S)
        routing = traffic.routing
        canary = traffic.opened(routing.canary.release_id) if routing.canary else None
        if canary is None or canary is traffic.serving:
            continue
        why = objection(canary.stats.summary(), traffic.serving.stats.summary(), limits)
        if why is None:
            continue
        reason = Reason(f"guardrails of {whoami()}", why)
        try:
            if await asyncio.to_thread(manager.end_canary, routing.generation, reason):
                logger.warning("canary %s is rolled back: %s", canary.release_id, why)
        except (RoutingError, ReleaseError, OSError):
            logger.exception("canary %s could not be rolled back", canary.release_id)


async def unload_unnamed(config: Config, opener: ReleaseOpener, release_id: str) -> None:
    """Frees a release's models in Triton, unless the routing names it again by then."""
    await asyncio.sleep(UNLOAD_AFTER_S)
    routing = await asyncio.to_thread(read_routing, config.releases)
    if routing is None or release_id not in routing.named:
        await opener.unload_models(release_id)
