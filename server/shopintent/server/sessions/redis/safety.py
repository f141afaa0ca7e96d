"""Whether Redis keeps what it acknowledged, as far as its settings tell."""

from __future__ import annotations

import asyncio
import logging

from shopintent.server.sessions.redis.files import setting
from shopintent.server.sessions.redis.link import RedisLink, Refused, Server, unavailable

logger = logging.getLogger(__name__)


class Safety:
    """Lets nothing be tracked into a Redis that would lose it.

    With `survives_power_loss` Redis must flush every write to the disk before it answers; without,
    it must write to its append-only file, which is flushed about once a second: what kills the
    process loses nothing, loss of power at most about the last two seconds.
    """

    def __init__(self, link: RedisLink, *, survives_power_loss: bool) -> None:
        self._link = link
        self._survives_power_loss = survives_power_loss
        self._looked_at: int | None = None
        """`losses` of the link when the settings were last looked at and fine."""
        self._looking = asyncio.Lock()

    async def ensure(self) -> None:
        """Looks at the settings, again when Redis was away. Raises StateUnavailable."""
        if self._looked_at == self._link.losses:
            return
        async with self._looking:
            losses = self._link.losses
            if self._looked_at != losses:
                await self._link.on_every_server(self._look_at)
                self._looked_at = losses

    async def _look_at(self, server: Server) -> None:
        try:
            why = await self._fault(server)
        except Refused as error:
            logger.warning(
                "Redis does not tell its settings (%s): that it keeps what it acknowledged is its "
                "operator's promise",
                error,
            )
            return
        if why:
            raise unavailable(why)

    async def _fault(self, server: Server) -> str:
        """Returns what is wrong with the settings and the remedy; empty when they are fine."""
        if await setting(server, "appendonly") != "yes":
            return (
                "it keeps nothing on its disk: set appendonly to yes, or SHOPINTENT_SESSIONS to "
                "sqlite"
            )
        flushes = await setting(server, "appendfsync")
        if flushes == "no" or (self._survives_power_loss and flushes != "always"):
            return (
                f"its appendfsync is {flushes}, so loss of power loses acknowledged events: set it "
                "to always, or to everysec with SHOPINTENT_SESSION_DURABILITY=process, which "
                "accepts the loss of about two seconds"
            )
        policy = await setting(server, "maxmemory-policy")
        if policy != "noeviction" and await setting(server, "maxmemory") != "0":
            return (
                f"its maxmemory-policy is {policy}, so it may drop records that are not in the "
                "event log: set it to noeviction"
            )
        return ""
