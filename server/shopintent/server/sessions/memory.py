"""Sessions in the memory of one process: nothing outlives it, and nothing grows without bound."""

from __future__ import annotations

import bisect
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from shopintent.artifacts.event_log import IMPRESSION
from shopintent.server.sessions import (
    EMPTY_HISTORY,
    IDEMPOTENT_S,
    Appended,
    BehaviorBehind,
    Counted,
    Deleted,
    FeedPage,
    History,
    TrackedEvent,
)
from shopintent.server.sessions.limits import DAY_S, FEED_S, MAX_ALIASES, Limits
from shopintent.server.sessions.positions import Position, new_epoch
from shopintent.server.sessions.tombstones import SECRET_BYTES, tombstone


@dataclass(slots=True, eq=False)
class _Visit:
    """What is held of one visitor: at most `max_events` events, oldest first."""

    key: str
    version: int = 0
    last_seen: float = 0.0
    aliases: dict[str, None] = field(default_factory=dict)
    """Joined with the visitor, the newest last."""
    events: list[TrackedEvent] = field(default_factory=list)
    event_ids: dict[str, float] = field(default_factory=dict)
    """When each id was added, the first added first."""
    impression_ids: dict[str, float] = field(default_factory=dict)
    history: History | None = EMPTY_HISTORY
    """The events as they were last asked for; None when they changed since."""


class InMemorySessions:
    """A SessionStore and EventFeed for one server process.

    It holds the newest `max_events` events by time of each visitor, and the ids of the last
    `IDS_PER_EVENT` times as many. The visitor heard of least recently is forgotten first, once
    there are more than `max_visitors`, or after `idle_s` seconds without an event. `clock` tells
    unix seconds.
    """

    def __init__(
        self,
        *,
        max_visitors: int = 100_000,
        max_events: int = 200,
        idle_s: float = 30 * DAY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = Limits(max_visitors, max_events, idle_s)
        self._clock = clock
        self._epoch = new_epoch()
        self._version = 0
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        """In the order they were last seen, so that the first are forgotten first."""
        self._owners: dict[str, _Visit] = {}
        """Whom each alias means."""
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._deleted: dict[bytes, float] = {}
        """When those were deleted who have these tombstones, the first deleted first."""
        self._feed: deque[tuple[int, float, Counted]] = deque()
        self._fed = 0

    async def append(
        self, visitor: str, events: Sequence[TrackedEvent], *, timeout_s: float, alias: str = ""
    ) -> Appended:
        """Adds events, all or none; needs no time."""
        now = self._clock()
        self._forget_idle(now)
        self._forget_tombstones(now)
        deleted_at = max(self._deleted_at(key) for key in (visitor, alias))
        refused = [each.event.event_time <= deleted_at for each in events]
        joins = bool(alias) and self._is_new_join(visitor, alias) and not (refused and all(refused))
        if not joins and all(refused):
            return Appended([False] * len(events), self._position(self._find(visitor)))
        visit = self._heard_of(visitor, now)
        if joins:
            self._join(visit, alias)
        self._forget_ids(visit, now)
        new = [
            not is_refused and self._insert(visit, event, now)
            for event, is_refused in zip(events, refused, strict=True)
        ]
        del visit.events[: -self._limits.max_events]
        while len(self._visits) > self._limits.max_visitors:
            self._forget(next(iter(self._visits.values())))
        return Appended(new, self._position(visit))

    async def recent(self, visitor: str, *, position: str = "", timeout_s: float = 1.0) -> History:
        """Returns what the visitor did; EMPTY_HISTORY when unknown. Never waits."""
        visit = self._find(visitor)
        history = EMPTY_HISTORY
        if visit is not None:
            if visit.history is None:
                visit.history = History(tuple(each.event for each in visit.events))
            history = visit.history
        if position:
            awaited = Position.parse(position)
            reached = 0 if visit is None else visit.version
            if awaited.epoch != self._epoch or awaited.number > reached:
                raise BehaviorBehind(history)
        return history

    async def delete(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Forgets a visitor and everybody joined with them; needs no time."""
        now = self._clock()
        found = await self.find(visitor, timeout_s=timeout_s)
        visit = self._find(visitor)
        if visit is not None:
            for each in visit.events:
                self._tell(each, now, weight=-1)
            self._forget(visit)
        for key in found.visitors:
            digest = tombstone(key, self._secret)
            self._deleted.pop(digest, None)
            self._deleted[digest] = now
        return found

    async def find(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Returns what is held of a visitor."""
        visit = self._find(visitor)
        if visit is None:
            return Deleted((visitor,), 0)
        n_events = len(visit.events) + len(visit.impression_ids)
        return Deleted((visit.key, *visit.aliases), n_events, len(visit.aliases))

    async def newest(self) -> str:
        """Returns the position behind everything recorded so far."""
        return str(Position(self._epoch, self._fed))

    async def since(self, position: str, *, limit: int = 1_000) -> FeedPage:
        """Returns what was recorded since a position, oldest first, at most `limit`."""
        seen = Position.parse(position)
        first = seen.number if seen.epoch == self._epoch else 0
        unseen = (each for each in self._feed if each[0] > first)
        page = list(islice(unseen, limit))
        last = page[-1][0] if page else self._fed
        return FeedPage([counted for _, _, counted in page], str(Position(self._epoch, last)))

    async def close(self) -> None:
        """Forgets everything."""
        self._visits.clear()
        self._owners.clear()

    def _find(self, visitor: str) -> _Visit | None:
        visit = self._visits.get(visitor) or self._owners.get(visitor)
        return None if visit is None or self._is_idle(visit, self._clock()) else visit

    def _position(self, visit: _Visit | None) -> str:
        return str(Position(self._epoch, 0 if visit is None else visit.version))

    def _heard_of(self, visitor: str, now: float) -> _Visit:
        visit = self._visits.get(visitor) or self._owners.get(visitor)
        if visit is None:
            visit = self._visits[visitor] = _Visit(visitor)
        self._version += 1
        visit.version, visit.last_seen = self._version, now
        self._visits.move_to_end(visit.key)
        return visit

    def _is_new_join(self, visitor: str, alias: str) -> bool:
        meant, owner = self._find(visitor), self._find(alias)
        return alias != visitor and (meant is None or meant is not owner)

    def _join(self, visit: _Visit, alias: str) -> None:
        """Lets an alias mean a visitor; what it did on its own until now joins theirs."""
        own = self._visits.get(alias)
        former = self._owners.get(alias)
        if own is not None:
            self._forget(own)
            _merge(visit, own)
            self._add_aliases(visit, own.aliases)
        elif former is not None:
            del former.aliases[alias]
        self._add_aliases(visit, [alias])

    def _add_aliases(self, visit: _Visit, aliases: Iterable[str]) -> None:
        for alias in aliases:
            visit.aliases[alias] = None
            self._owners[alias] = visit
        for alias in list(visit.aliases)[:-MAX_ALIASES]:
            del visit.aliases[alias]
            del self._owners[alias]

    def _insert(self, visit: _Visit, tracked: TrackedEvent, now: float) -> bool:
        """Puts the event behind all that are not newer; returns False for a repeat."""
        shown = tracked.event.event_type == IMPRESSION
        if tracked.event_id in visit.event_ids or tracked.event_id in visit.impression_ids:
            return False
        if tracked.event_id:
            (visit.impression_ids if shown else visit.event_ids)[tracked.event_id] = now
        if not shown:
            # Events mostly come in order, so this looks at the end of the list and moves little.
            bisect.insort_right(visit.events, tracked, key=_event_time)
            visit.history = None
            self._tell(tracked, now)
        return True

    def _tell(self, tracked: TrackedEvent, now: float, *, weight: int = 1) -> None:
        """Puts an event about a product into the feed."""
        event = tracked.event
        while self._feed and now - self._feed[0][1] > FEED_S:
            self._feed.popleft()
        if event.product_id:
            self._fed += 1
            counted = Counted(event.event_type, event.event_time, event.product_id, weight)
            self._feed.append((self._fed, now, counted))

    def _is_idle(self, visit: _Visit, now: float) -> bool:
        return now - visit.last_seen > self._limits.idle_s

    def _forget_idle(self, now: float) -> None:
        while self._visits and self._is_idle(next(iter(self._visits.values())), now):
            self._forget(next(iter(self._visits.values())))

    def _forget(self, visit: _Visit) -> None:
        del self._visits[visit.key]
        for alias in visit.aliases:
            del self._owners[alias]

    def _forget_ids(self, visit: _Visit, now: float) -> None:
        for ids in (visit.event_ids, visit.impression_ids):
            excess = len(ids) - self._limits.max_ids
            old = list(islice(ids, max(excess, 0)))
            for key, added_at in ids.items():
                if now - added_at <= IDEMPOTENT_S:
                    break
                old.append(key)
            for key in old:
                ids.pop(key, None)

    def _deleted_at(self, visitor: str) -> float:
        if not self._deleted:
            return -math.inf
        return self._deleted.get(tombstone(visitor, self._secret), -math.inf)

    def _forget_tombstones(self, now: float) -> None:
        while self._deleted and now - next(iter(self._deleted.values())) > IDEMPOTENT_S:
            del self._deleted[next(iter(self._deleted))]


def _event_time(tracked: TrackedEvent) -> int:
    return tracked.event.event_time


def _merge(visit: _Visit, other: _Visit) -> None:
    """Joins the events of another, those of an id that the visitor knows left out."""
    known = visit.event_ids.keys() | visit.impression_ids.keys()
    visit.events += [each for each in other.events if each.event_id not in known]
    # The sort is stable: of one time, the visitor's own come first.
    visit.events.sort(key=_event_time)
    visit.history = None
    ids = ((visit.event_ids, other.event_ids), (visit.impression_ids, other.impression_ids))
    for mine, theirs in ids:
        merged = {**theirs, **mine}
        mine.clear()
        mine.update(sorted(merged.items(), key=lambda item: item[1]))
