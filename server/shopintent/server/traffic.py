"""Which opened release answers whom: follows the routing of the releases root.

A release that is named is opened aside and takes part once it is ready; until then whoever it
would answer is answered as before. One that is named no longer finishes its requests and is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from shopintent.artifacts import ReleaseError
from shopintent.artifacts.routing import Routing, Share
from shopintent.server.errors import ShopIntentError
from shopintent.server.serving import ServingRelease

logger = logging.getLogger(__name__)

LONGEST_RETRY_S = 30.0
"""Between tries to open a release that is refused."""

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
        retry_s: float = 0.5,
    ) -> None:
        self.routing = routing
        self._serving = first
        """What answers by default: the release that serves, or served until that one is ready."""
        self._ready = {first.release_id: first}
        self._open_release = open_release
        self._prove = prove
        self._retry_s = retry_s
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.refused: dict[str, str] = {}
        """Why a release that is named takes no traffic, by its id."""

    @property
    def serving(self) -> ServingRelease:
        """The release that answers by default."""
        return self._serving

    @property
    def ready(self) -> list[ServingRelease]:
        """Every release that may be asked, the serving one first."""
        others = [each for each in self._ready.values() if each is not self._serving]
        return [self._serving, *others]

    def release_for(self, visitor: str) -> ServingRelease:
        """Returns the release that answers a visitor, by the key of its session."""
        canary = self.routing.canary
        if canary is None:
            return self._serving
        return self._of(canary, visitor) or self._serving

    def shadow_for(self, visitor: str) -> ServingRelease | None:
        """Returns the release that is to be asked as well, if there is one for the visitor."""
        shadow = self.routing.shadow
        return None if shadow is None else self._of(shadow, visitor)

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
        """Closes every release; requests must have ended."""
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), *self._closing, return_exceptions=True)
        for release in self._ready.values():
            await release.close()

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
                if self.refused.get(release_id) != str(error):
                    logger.warning("release %s takes no traffic: %s", release_id, error)
                self.refused[release_id] = str(error)
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        self.refused.pop(release_id, None)
        del self._opening[release_id]
        self._ready[release_id] = release
        logger.warning("release %s is ready to take traffic", release_id)
        self._settle()

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
        await release.in_flight.drained()
        await release.close()
        logger.warning("release %s is closed", release.release_id)
