"""Sessions in the memory of one process: nothing outlives it, and nothing grows without bound."""

from __future__ import annotations

import bisect
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from shopintent.behavior import Event
from shopintent.server.sessions import TrackedEvent

DAY_S = 24 * 60 * 60


@dataclass(slots=True)
class _Visit:
    """What is held of one visitor: at most `max_events` events, oldest first."""

    last_seen: float
    events: list[TrackedEvent] = field(default_factory=list)
    event_ids: set[str] = field(default_factory=set)


class InMemorySessions:
    """A SessionStore for one server process.

    It holds the newest `max_events` events by time of each visitor. The visitor heard of least
    recently is forgotten first, once there are more than `max_visitors`, or after `idle_s` seconds
    without an event. `clock` tells the seconds and never goes back.
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

    async def append(self, visitor: str, events: Sequence[TrackedEvent]) -> int:
        """Adds events, all or none, and returns how many were new."""
        now = self._clock()
        self._forget_idle(now)
        visit = self._visits.setdefault(visitor, _Visit(now))
        visit.last_seen = now
        self._visits.move_to_end(visitor)
        recorded = sum(_insert(visit, event) for event in events)
        _drop_oldest(visit, self._max_events)
        while len(self._visits) > self._max_visitors:
            self._visits.popitem(last=False)
        return recorded

    async def recent(self, visitor: str) -> list[Event]:
        """Returns the newest events of the visitor by time, oldest first; none when unknown."""
        visit = self._visits.get(visitor)
        if visit is None or self._is_idle(visit, self._clock()):
            return []
        return [tracked.event for tracked in visit.events]

    async def close(self) -> None:
        """Forgets everything."""
        self._visits.clear()

    def _is_idle(self, visit: _Visit, now: float) -> bool:
        return now - visit.last_seen > self._idle_s

    def _forget_idle(self, now: float) -> None:
        while self._visits and self._is_idle(next(iter(self._visits.values())), now):
            self._visits.popitem(last=False)


def _insert(visit: _Visit, tracked: TrackedEvent) -> bool:
    """Puts the event behind all that are not newer; returns False for a repeat."""
    if tracked.event_id in visit.event_ids:
        return False
    if tracked.event_id:
        visit.event_ids.add(tracked.event_id)
    # Events mostly come in order, so this looks at the end of the list and moves little.
    bisect.insort_right(visit.events, tracked, key=attrgetter("event.event_time"))
    return True


def _drop_oldest(visit: _Visit, max_events: int) -> None:
    excess = len(visit.events) - max_events
    if excess > 0:
        visit.event_ids.difference_update(tracked.event_id for tracked in visit.events[:excess])
        del visit.events[:excess]
