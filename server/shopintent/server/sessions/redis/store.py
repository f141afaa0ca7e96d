"""Sessions in Redis, shared by servers on any number of machines.

A script does what a call asks in one round trip, and returns only what changed since the last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from shopintent.artifacts.event_log import IMPRESSION, LogRecord
from shopintent.server.errors import Overloaded, StateUnavailable
from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions import (
    EMPTY_HISTORY,
    Appended,
    BehaviorBehind,
    Deleted,
    FeedPage,
    History,
    TrackedEvent,
)
from shopintent.server.sessions.limits import DAY_S, Limits
from shopintent.server.sessions.redis import deleting
from shopintent.server.sessions.redis.encoding import encoded, kept_events
from shopintent.server.sessions.redis.feed import RedisFeed
from shopintent.server.sessions.redis.histories import NOTHING_HELD, Histories
from shopintent.server.sessions.redis.joining import Aliases
from shopintent.server.sessions.redis.layout import PARTITIONS, Layout, Position
from shopintent.server.sessions.redis.link import RedisLink, in_time
from shopintent.server.sessions.redis.records import RedisRecords
from shopintent.server.sessions.redis.safety import Safety
from shopintent.server.sessions.redis.state import RedisState

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1
"""Between looks for a position."""


class RedisSessions:
    """A SessionStore, EventFeed and RecordSource for servers on any number of machines.

    Of each visitor the newest events by time are kept, and the ids of the last `IDS_PER_EVENT`
    times as many for a day. The visitor heard of least recently is forgotten first, once a
    partition holds more than its share of them, or when idle.
    """

    def __init__(
        self,
        state: RedisState,
        safety: Safety,
        feed: RedisFeed,
        records: RedisRecords,
        *,
        cached_histories: int,
    ) -> None:
        self._state = state
        self._safety = safety
        self._feed = feed
        self._records = records
        self._aliases = Aliases(state, max_cached=cached_histories)
        self._histories = Histories(max_cached=cached_histories, max_events=state.limits.max_events)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        is_cluster: bool = False,
        password: str | None = None,
        replicas: int = 0,
        survives_power_loss: bool = True,
        pseudonyms: Pseudonyms | None = None,
        max_visitors: int = 100_000,
        max_events: int = 200,
        idle_s: float = 30 * DAY_S,
        max_unlogged: int = 1_000_000,
        cached_histories: int = 20_000,
        consumer: str = "",
        n_partitions: int = PARTITIONS,
        clock: Callable[[], float] = time.time,
    ) -> RedisSessions:
        """Makes the store; it connects when first used, so Redis may be away meanwhile.

        The limits are those of all servers together. With `pseudonyms` new events become records of
        the event log, and no more are taken when `max_unlogged` wait for it; `consumer` names who
        drains them, the machine by default. What is acknowledged survives the end of every process,
        with `survives_power_loss` also that of Redis' machine, and with `replicas` its loss.
        `clock` tells unix seconds. Raises ValueError for a bad URL or limit.
        """
        limits = Limits(max_visitors, max_events, idle_s)
        link = RedisLink.open(url, is_cluster=is_cluster, password=password, replicas=replicas)
        state = RedisState(link, Layout(n_partitions), pseudonyms, limits, max_unlogged, clock)
        safety = Safety(link, survives_power_loss=survives_power_loss)
        records = RedisRecords(state, consumer=consumer)
        return cls(state, safety, RedisFeed(state), records, cached_histories=cached_histories)

    async def check(self) -> None:
        """Logs what is wrong with Redis, if anything; events are refused until it is mended."""
        try:
            await self._safety.ensure()
        except StateUnavailable as error:
            logger.error("%s", error)

    async def append(
        self, visitor: str, events: Sequence[TrackedEvent], *, timeout_s: float, alias: str = ""
    ) -> Appended:
        """Adds events, all or none.

        Raises Overloaded when nothing was added, and StateUnavailable when it is not known.
        """

        async def add(target: str, via: str) -> list[Any]:
            return await self._append(target, via, events)

        latest = max((each.event.event_time for each in events), default=None)
        async with in_time(timeout_s):
            await self._safety.ensure()
            target, answer = await self._aliases.reach(visitor, add, alias=alias, latest=latest)
            if answer[0] == b"refused":
                return await self._refuse(target, events)
        if answer[0] == b"full":
            raise Overloaded()
        _, epoch, number, born, before, flags = answer
        new = [flag == ord("1") for flag in flags]
        added = [
            each.event
            for each, is_new in zip(events, new, strict=True)
            if is_new and each.event.event_type != IMPRESSION
        ]
        self._histories.append(target, born, before, number, added)
        partition = self._state.layout.place(target).partition
        return Appended(new, str(Position(partition.name, epoch.decode(), number.decode())))

    async def recent(self, visitor: str, *, position: str = "", timeout_s: float = 1.0) -> History:
        """Returns what the visitor did; EMPTY_HISTORY when unknown.

        Raises StateUnavailable, and BehaviorBehind when the position is not reached in time.
        """
        wanted = Position.parse(position) if position else Position("", "", "")
        ends_at, pause_s = time.monotonic() + timeout_s, FIRST_PAUSE_S
        async with in_time(timeout_s):
            while True:
                reached, history = await self._recent(visitor, wanted)
                if reached > 0:
                    return history
                if reached < 0 or time.monotonic() + 2 * pause_s > ends_at:
                    raise BehaviorBehind(history)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def delete(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Forgets a visitor and everybody joined with them; Redis writes its files anew."""
        async with in_time(timeout_s):
            deleted = await deleting.delete(self._state, visitor)
        for each in deleted.visitors:
            self._histories.forget(each)
        return deleted

    async def find(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Returns the occurrences of a visitor in everything that Redis holds."""
        async with in_time(timeout_s):
            return await deleting.find(self._state, visitor)

    async def newest(self) -> str:
        """Returns the position behind everything recorded so far. Raises StateUnavailable."""
        return await self._feed.newest()

    async def since(self, position: str, *, limit: int = 1_000) -> FeedPage:
        """Returns what was recorded since a position, oldest first. Raises StateUnavailable."""
        return await self._feed.since(position, limit=limit)

    async def waiting(self, *, limit: int = 10_000) -> list[LogRecord]:
        """Returns the oldest records that `logged` was not called for. Raises StateUnavailable."""
        return await self._records.waiting(limit=limit)

    async def logged(self, records: Sequence[LogRecord]) -> None:
        """Drops records that are in the log, on the disk. Raises StateUnavailable."""
        await self._records.logged(records)

    async def close(self) -> None:
        """Closes the connections."""
        await self._state.link.close()

    async def _append(self, visitor: str, via: str, events: Sequence[TrackedEvent]) -> list[Any]:
        state, place = self._state, self._state.layout.place(visitor)
        partition = place.partition
        shopper, received_at = state.pseudonym(visitor), state.clock()
        answer: list[Any] = await state.link.run(
            "append",
            [
                partition.itself,
                *place.keys,
                partition.feed,
                partition.log,
                partition.seen,
            ],
            [
                *state.limits_of(place),
                via,
                *(field for each in events for field in encoded(each, shopper, received_at)),
            ],
            replicated=True,
        )
        return answer

    async def _refuse(self, visitor: str, events: Sequence[TrackedEvent]) -> Appended:
        """Answers for events that an alias brought and that were before it was deleted."""
        _, (_, epoch, number, *_) = await self._aliases.reach(
            visitor, lambda target, via: self._append(target, via, [])
        )
        partition = self._state.layout.place(visitor).partition
        position = Position(partition.name, epoch.decode(), number.decode())
        return Appended([False] * len(events), str(position))

    async def _recent(self, visitor: str, wanted: Position) -> tuple[int, History]:
        held = NOTHING_HELD

        async def look(target: str, via: str) -> list[Any]:
            nonlocal held
            held = self._histories.get(target)
            place = self._state.layout.place(target)
            answer: list[Any] = await self._state.link.run(
                "recent",
                [place.partition.itself, place.itself, place.events],
                [
                    *self._state.age(),
                    via,
                    held.born,
                    held.number,
                    wanted.partition,
                    wanted.epoch,
                    wanted.number,
                    place.partition.name,
                ],
            )
            return answer

        target, answer = await self._aliases.reach(visitor, look)
        status, reached = answer[:2]
        if status == b"none":
            self._histories.forget(target)
            return reached, EMPTY_HISTORY
        if status == b"same":
            return reached, held.history
        _, _, born, number, members = answer
        before = held.history if status == b"since" else EMPTY_HISTORY
        added = kept_events(members)
        return reached, self._histories.read(target, before, born, number, added)
