"""Sessions in the memory of one process: nothing outlives it, and nothing grows without bound."""

from __future__ import annotations

import bisect
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from shopintent.behavior import Event
from shopintent.server.sessions import (
    EMPTY_HISTORY,
    IDEMPOTENT_S,
    Appended,
    Deleted,
    History,
    TrackedEvent,
)

DAY_S = 24 * 60 * 60
IDS_PER_EVENT = 20
"""Event ids known of a visitor, for each event that is kept of one."""


@dataclass(slots=True)
class _Visit:
    """What is held of one visitor: at most `max_events` events, oldest first."""

    last_seen: float
    events: list[Event] = field(default_factory=list)
    event_ids: dict[str, float] = field(default_factory=dict)
    """When each id was added, the first added first."""
    history: History | None = EMPTY_HISTORY
    """The events as they were last asked for; None when they changed since."""


class InMemorySessions:
    """A SessionStore for one server process.

    It holds the newest `max_events` events by time of each visitor, and the ids of the last
    `IDS_PER_EVENT` times as many. The visitor heard of least recently is forgotten first, once
    there are more than `max_visitors`, or after `idle_s` seconds without an event. `clock` tells
    the seconds and never goes back.
    """

    def __init__(
        self,
        *,
        max_visitors: int = 100_000,
        max_events: int = 200,
        idle_s: float = 30 * DAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_visitors < 1 or max_events < 1 or idle_s <= 0:
            raise ValueError("max_visitors, max_events and idle_s must be above 0")
        self._max_visitors = max_visitors
        self._max_events = max_events
        self._idle_s = idle_s
        self._clock = clock
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        """In the order they were last seen, so that the first are forgotten first."""

    async def append(
        self, visitor: str, events: Sequence[TrackedEvent], *, timeout_s: float, alias: str = ""
    ) -> Appended:
        """Adds events, all or none; needs no time."""
        now = self._clock()
        self._forget_idle(now)
        visit = self._visits.setdefault(visitor, _Visit(now))
        visit.last_seen = now
        self._visits.move_to_end(visitor)
        self._forget_ids(visit, now)
        new = [_insert(visit, event, now) for event in events]
        if any(new):
            del visit.events[: -self._max_events]
            visit.history = None
        while len(self._visits) > self._max_visitors:
            self._visits.popitem(last=False)
        return Appended(new, "")

    async def recent(self, visitor: str, *, position: str = "", timeout_s: float = 1.0) -> History:
        """Returns what the visitor did; EMPTY_HISTORY when unknown."""
        visit = self._visits.get(visitor)
        if visit is None or self._is_idle(visit, self._clock()):
            return EMPTY_HISTORY
        if visit.history is None:
            visit.history = History(tuple(visit.events))
        return visit.history

    async def delete(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Forgets a visitor."""
        held = await self.find(visitor, timeout_s=timeout_s)
        self._visits.pop(visitor, None)
        return held

    async def find(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Returns what is held of a visitor."""
        visit = self._visits.get(visitor)
        return Deleted((visitor,), 0 if visit is None else len(visit.events))

    async def close(self) -> None:
        """Forgets everything."""
        self._visits.clear()

    def _is_idle(self, visit: _Visit, now: float) -> bool:
        return now - visit.last_seen > self._idle_s

    def _forget_idle(self, now: float) -> None:
        while self._visits and self._is_idle(next(iter(self._visits.values())), now):
            self._visits.popitem(last=False)

    def _forget_ids(self, visit: _Visit, now: float) -> None:
        ids = visit.event_ids
        excess = len(ids) - IDS_PER_EVENT * self._max_events
        old = list(islice(ids, max(excess, 0)))
        for key, added_at in ids.items():
            if now - added_at <= IDEMPOTENT_S:
                break
            old.append(key)
        for key in old:
            ids.pop(key, None)


def _insert(visit: _Visit, tracked: TrackedEvent, now: float) -> bool:
    """Puts the event behind all that are not newer; returns False for a repeat."""
    if tracked.event_id in visit.event_ids:
        return False
    if tracked.event_id:
        visit.event_ids[tracked.event_id] = now
    # Events mostly come in order, so this looks at the end of the list and moves little.
    bisect.insort_right(visit.events, tracked.event, key=attrgetter("event_time"))
    return True
