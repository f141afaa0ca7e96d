"""Which visitor a key means: aliases, and the join of what they did with the visitor's own.

A join touches two partitions, so it is made of steps that can be repeated: the alias says whom it
means and changes no more, the visitor gets what the alias did, the alias drops it. Whoever meets
a join that was cut short brings it to its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from shopintent.artifacts.event_log import LOGIN, LogRecord
from shopintent.server.cache import LruCache
from shopintent.server.errors import Overloaded
from shopintent.server.sessions.redis.encoding import kept_events
from shopintent.server.sessions.redis.link import Value, unavailable
from shopintent.server.sessions.redis.state import RedisState

MAX_HOPS = 8
"""Links and joins that one call follows."""
LINK_S = 3_600.0
"""For which an alias is known here; asking for it again keeps it alive in Redis."""

Ask = Callable[[str, str], Awaitable[list[Any]]]
"""Asks for a visitor by way of one of its aliases, which may be empty."""


class Aliases:
    """Finds the visitor that a key means."""

    def __init__(self, state: RedisState, *, max_cached: int) -> None:
        self._state = state
        self._known: LruCache[str, str] = LruCache(
            max_entries=max_cached, max_age_s=min(LINK_S, state.limits.idle_s / 2)
        )

    async def reach(
        self, visitor: str, ask: Ask, *, alias: str = "", latest: int | None = None
    ) -> tuple[str, list[Any]]:
        """Asks until it is the visitor's own answer, and returns whose it is and the answer.

        An `alias` that means nobody else joins the visitor first. Where the alias was deleted after
        `latest`, the time of what comes with it, the answer is only that it is refused. It costs
        one round trip, but for the first call of an alias.
        """
        target, via, is_known = visitor, "" if alias == visitor else alias, False
        if not via and (known := self._known.get(visitor)):
            target, via, is_known = known, visitor, True
        for _ in range(MAX_HOPS):
            answer = await ask(target, via)
            if answer[0] == b"moved":
                means = answer[1].decode()
                if answer[2]:
                    await self.join(target, means)
                self._known.put(target, means)
                if via in ("", means):
                    via = target
                target, is_known = means, False
            elif answer[0] != b"unlinked":
                return target, answer
            elif via == alias:
                if not await self.join(alias, target, latest):
                    return target, [b"refused"]
            else:  # The visitor was forgotten, and with it who they were.
                self._known.discard(via)
                if not is_known:
                    place = self._state.layout.place(via)
                    await self._state.link.run("unlink", [place.itself], [target])
                target, via, is_known = via, "", False
        raise unavailable("too many joins at once")

    async def join(self, alias: str, visitor: str, latest: int | None = None) -> bool:
        """Lets an alias mean a visitor, who gets what it did; returns False when it is refused.

        Raises Overloaded when the login cannot be recorded.
        """
        state, place = self._state, self._state.layout.place(alias)
        while True:
            left = await state.link.run(
                "leave",
                [place.partition.itself, *place.keys, place.partition.seen],
                [*state.limits_of(place), visitor, "" if latest is None else latest],
                replicated=True,
            )
            if left[0] == b"refused":
                return False
            if left[0] == b"joining":
                break
            await self.join(alias, left[1].decode())
        _, epoch, number, name, before, refused, events, ids, shown, aliases = left
        if before and before.decode() != visitor:
            was = state.layout.place(before.decode())
            await state.link.run("part", [was.itself], [alias])
        await self._arrive(
            visitor,
            alias,
            [name, place.partition.name, epoch, number, refused, self._login(visitor, alias)],
            [len(events), len(ids) // 2, *_with_times(events), *ids, *shown],
        )
        for each in aliases:
            await self.join(each.decode(), visitor)
        await state.link.run("left", place.keys, [name], replicated=True)
        self._known.put(alias, visitor)
        return True

    async def _arrive(
        self, visitor: str, alias: str, join: list[Value], brought: list[Value]
    ) -> None:
        state = self._state
        for _ in range(MAX_HOPS):
            place = state.layout.place(visitor)
            partition = place.partition
            answer = await state.link.run(
                "arrive",
                [partition.itself, *place.keys, partition.log, partition.seen],
                [*state.limits_of(place), alias, *join, *brought],
                replicated=True,
            )
            if answer[0] == b"full":
                raise Overloaded()
            if answer[0] != b"moved":
                return
            visitor = answer[1].decode()
        raise unavailable("too many joins at once")

    def _login(self, visitor: str, alias: str) -> bytes:
        """Returns the record of a login; empty where there is no event log."""
        state, now = self._state, self._state.clock()
        if state.names is None:
            return b""
        return LogRecord(
            source="",
            sequence=0,
            received_at=now,
            shopper=state.pseudonym(visitor),
            event_type=LOGIN,
            event_time=int(now),
            alias=state.pseudonym(alias),
        ).to_line()


def _with_times(members: list[bytes]) -> list[Value]:
    """Returns events as they are kept, each with its time behind it."""
    times = (event.event_time for event in kept_events(members))
    return [value for pair in zip(members, times, strict=True) for value in pair]
