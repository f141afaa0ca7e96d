"""Which opened release answers whom: follows the routing of the releases root.

A release that is named is opened aside and takes part once it is ready; until then whoever it
would answer is answered as before. One that is named no longer finishes its requests and is closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from shopintent.artifacts import ReleaseError
from shopintent.artifacts.routing import Routing, Share
from shopintent.server.deadlines import Deadline
from shopintent.server.errors import InvalidRequest, Overloaded, ShopIntentError
from shopintent.server.hydrate import Degraded
from shopintent.server.serving import ServingRelease

logger = logging.getLogger(__name__)

LONGEST_RETRY_S = 30.0
"""Between tries to open a release that is refused."""

CANARY_SHARE = 0.5
"""Of the time left, what a canary may take; the rest is for the serving release to stand in."""
MAX_SHADOWED = 16
"""Requests that a shadow is asked at once; more are not shadowed."""


class Answered(Protocol):
    """What every answer tells about itself."""

    @property
    def degraded(self) -> frozenset[Degraded]: ...


A = TypeVar("A", bound=Answered)
Ask = Callable[[ServingRelease, Deadline], Awaitable[A]]
"""Answers a request from one release, by a deadline."""

Open = Callable[[str], Awaitable[ServingRelease]]
"""Opens a release by its id. Raises ReleaseError or ShopIntentError."""
Prove = Callable[[ServingRelease], Awaitable[None]]
"""Raises ReleaseError or ShopIntentError, saying why, unless the release may take traffic."""


class Traffic:
    """The opened releases, and the choice between them.

    The one it starts with is taken as it is: its monitor holds answers back until it is verified,
    and there is none to answer instead.
    """

    def __init__(
        self,
        first: ServingRelease,
        routing: Routing,
        *,
        open_release: Open | None = None,
        prove: Prove | None = None,
        on_closed: Callable[[ServingRelease], Awaitable[None]] | None = None,
        retry_s: float = 0.5,
    ) -> None:
        self.routing = routing
        self._serving = first
        """What answers by default: the release that serves, or served until that one is ready."""
        self._ready = {first.release_id: first}
        self._open_release = open_release
        self._prove = prove
        self._on_closed = on_closed
        self._retry_s = retry_s
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._mirrored: set[asyncio.Task[None]] = set()
        self.refused: dict[str, str] = {}
        """Why a release that is named takes no traffic, by its id."""

    @property
    def serving(self) -> ServingRelease:
        """The release that answers by default."""
        return self._serving

    def opened(self, release_id: str) -> ServingRelease | None:
        """Returns a release that may be asked, by its id."""
        return self._ready.get(release_id)

    @property
    def ready(self) -> list[ServingRelease]:
        """Every release that may be asked, the serving one first."""
        others = [each for each in self._ready.values() if each is not self._serving]
        return [self._serving, *others]

    def roles(self) -> dict[str, str]:
        """Returns what each release that may be asked is asked for, by its id."""
        roles = dict.fromkeys(self._ready, "waiting")
        for role, share in (("shadow", self.routing.shadow), ("canary", self.routing.canary)):
            if share is not None and share.release_id in roles:
                roles[share.release_id] = role
        return {**roles, self._serving.release_id: "serving"}

    @property
    def is_comparing(self) -> bool:
        """Whether releases are watched side by side, and so must be counted."""
        return self.routing.canary is not None or self.routing.shadow is not None

    async def answer(
        self, visitor: str, ask: Ask[A], *, deadline: Deadline
    ) -> tuple[ServingRelease, A]:
        """Returns an answer, wholly from one release, and the release.

        The serving release stands in for a canary that fails or is degraded. Raises what `ask`
        raises.
        """
        release = self.release_for(visitor)
        self._mirror(visitor, ask, deadline)
        if release is not self._serving:
            with suppress(ShopIntentError):
                answer = await self._ask(release, ask, deadline.sooner(CANARY_SHARE))
                if not answer.degraded:
                    return release, answer
        return self._serving, await self._ask(self._serving, ask, deadline)

    def release_for(self, visitor: str) -> ServingRelease:
        """Returns the release that answers a visitor, by the key of its session."""
        canary = self.routing.canary
        if canary is None:
            return self._serving
        return self._of(canary, visitor) or self._serving

    def follow(self, routing: Routing) -> None:
        """Takes over a routing: opens what it names and closes what it does not."""
        self.routing = routing
        for release_id in routing.named - self._ready.keys() - self._opening.keys():
            self._opening[release_id] = asyncio.create_task(self._admit(release_id))
        for release_id in self._opening.keys() - routing.named:
            self._opening.pop(release_id).cancel()
            self.refused.pop(release_id, None)
        self._settle()

    async def close(self) -> None:
        """Closes every release; requests must have ended, and nothing follows any more."""
        ending = (*self._opening.values(), *self._mirrored, *self._closing)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for release in self._ready.values():
            await release.close()

    async def _ask(self, release: ServingRelease, ask: Ask[A], deadline: Deadline) -> A:
        """Asks a release, and counts how it did where that is compared with another."""
        with release.in_flight:
            if not self.is_comparing:
                return await ask(release, deadline)
            started = time.perf_counter()
            try:
                answer = await ask(release, deadline)
            except (InvalidRequest, Overloaded):
                raise
            except ShopIntentError:
                release.stats.count(time.perf_counter() - started, failed=True)
                raise
            release.stats.count(time.perf_counter() - started, degraded=bool(answer.degraded))
            return answer

    def _mirror(self, visitor: str, ask: Ask[A], deadline: Deadline) -> None:
        """Asks the shadow as well, if there is one for the visitor; its answer goes nowhere."""
        shadow = self.routing.shadow
        if shadow is None or len(self._mirrored) >= MAX_SHADOWED:
            return
        release = self._of(shadow, visitor)
        if release is not None:
            task = asyncio.create_task(self._shadowed(release, ask, deadline))
            self._mirrored.add(task)
            task.add_done_callback(self._mirrored.discard)

    async def _shadowed(self, release: ServingRelease, ask: Ask[A], deadline: Deadline) -> None:
        try:
            await self._ask(release, ask, deadline)
        except ShopIntentError:
            pass  # It is counted.
        except Exception:
            logger.exception("shadow %s failed", release.release_id)

    def _of(self, share: Share, visitor: str) -> ServingRelease | None:
        if not visitor or not share.takes(visitor):
            return None
        return self._ready.get(share.release_id)

    def _settle(self) -> None:
        """Moves the default to the release that serves if it is ready, and closes the unnamed."""
        self._serving = self._ready.get(self.routing.serving, self._serving)
        kept = self.routing.named | {self._serving.release_id}
        for release_id in self._ready.keys() - kept:
            closing = asyncio.create_task(self._retire(self._ready.pop(release_id)))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _admit(self, release_id: str) -> None:
        """Opens a release and lets it take part once it is proved; tries until it is not named."""
        retry_s = self._retry_s
        while True:
            try:
                release = await self._opened_and_proved(release_id)
                break
            except (ReleaseError, ShopIntentError) as error:
                self._refuse(release_id, str(error))
            except Exception as error:
                logger.exception("release %s could not be opened", release_id)
                self._refuse(release_id, f"opening it failed: {error}")
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        self.refused.pop(release_id, None)
        del self._opening[release_id]
        self._ready[release_id] = release
        logger.warning("release %s is ready to take traffic", release_id)
        self._settle()

    def _refuse(self, release_id: str, why: str) -> None:
        if self.refused.get(release_id) != why:
            logger.warning("release %s takes no traffic: %s", release_id, why)
        self.refused[release_id] = why

    async def _opened_and_proved(self, release_id: str) -> ServingRelease:
        assert self._open_release is not None
        assert self._prove is not None
        release = await self._open_release(release_id)
        try:
            await self._prove(release)
        except BaseException:
            with suppress(ShopIntentError):
                await release.close()
            raise
        return release

    async def _retire(self, release: ServingRelease) -> None:
        try:
            await release.in_flight.drained()
        finally:
            await release.close()
        logger.warning("release %s is closed", release.release_id)
        if self._on_closed is not None:
            await self._on_closed(release)
