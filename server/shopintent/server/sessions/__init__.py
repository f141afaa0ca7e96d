"""Sessions: the behavior of each visitor, as tracked so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from shopintent.artifacts.event_log import LogRecord
from shopintent.behavior import Event

IDEMPOTENT_S = 24 * 60 * 60
"""Seconds for which an event id is known, whether or not its event is still among the newest."""


@dataclass(frozen=True)
class TrackedEvent:
    """An event as it was tracked."""

    event: Event
    """Its type may also be IMPRESSION: that is logged, and no behavior."""
    event_id: str = ""
    """The caller's id; empty events are never taken for repeats."""
    attribution_token: str = ""
    experiment_ids: tuple[str, ...] = ()
    shown_product_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Appended:
    """What became of events."""

    new: list[bool]
    """Of each event whether it was recorded."""
    position: str
    """Stands for all that is recorded of the visitor now; printable ASCII, at most 100."""


@dataclass(frozen=True)
class Counted:
    """An event as the counters of what is popular see it: of nobody in particular."""

    event_type: str
    event_time: int
    product_id: str
    weight: int = 1
    """-1 takes back an event of a visitor who was deleted."""


@dataclass(frozen=True)
class FeedPage:
    """A part of the feed."""

    events: list[Counted]
    position: str
    """Where the next page begins."""


@dataclass(frozen=True)
class Deleted:
    """What a store deleted of a visitor, or holds of one."""

    visitors: tuple[str, ...]
    """The keys they were known by, those joined at login included."""
    event_count: int
    link_count: int = 0
    """Joins of two keys."""


@dataclass(frozen=True, eq=False)
class History:
    """What a visitor did, as one moment knows it.

    A store hands out the same object until the visitor's events change, so what is computed of a
    history can be kept with it: it hashes by identity and can be referred to weakly.
    """

    events: tuple[Event, ...]
    """The newest events by time, oldest first."""

    @cached_property
    def product_ids(self) -> frozenset[str]:
        """The products that the events are about."""
        return frozenset(event.product_id for event in self.events if event.product_id)


EMPTY_HISTORY = History(())
"""The history of every visitor of whom nothing is known."""


class BehaviorBehind(Exception):
    """A store does not hold what a position stands for; `history` is what it holds."""

    def __init__(self, history: History) -> None:
        super().__init__("the store has not reached the position, or lost it")
        self.history = history


class SessionStore(Protocol):
    """The newest events of every visitor, in bounded memory.

    Visitors are named by keys, "visitor:..", "session:.." and "user:..". Where a store is given
    pseudonyms, each new event, impressions and logins included, becomes a record of the event log
    too, together with the event or not at all.
    """

    async def append(
        self, visitor: str, events: Sequence[TrackedEvent], *, timeout_s: float, alias: str = ""
    ) -> Appended:
        """Adds events, all or none.

        An event whose `event_id` was added for the visitor in the last `IDEMPOTENT_S` seconds is
        not added again, nor is one from before the visitor was deleted. Once it returns, `recent`
        sees the events, wherever they belong by time. `alias` is an anonymous key that the visitor
        was known by until now: its events join the visitor's, and from then on it means the
        visitor; this holds for the store also when there are no events.
        """

    async def recent(self, visitor: str, *, position: str = "", timeout_s: float = 1.0) -> History:
        """Returns what the visitor did; EMPTY_HISTORY when unknown.

        With the `position` of an earlier append it waits, where a store can lag, until that is
        seen; raises BehaviorBehind, which holds what is known, when `timeout_s` is over or the
        position can never be reached because the store lost it. Raises ValueError for a text that
        is no position.
        """

    async def delete(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Forgets a visitor and everybody joined with them, records not yet in the log included.

        Events until now are refused for `IDEMPOTENT_S` seconds more. What it leaves on a disk holds
        no byte of the visitor's key or pseudonym. Counters take the events back through the feed.
        """

    async def find(self, visitor: str, *, timeout_s: float) -> Deleted:
        """Returns what is held of a visitor: rows, and occurrences among the bytes of its files."""

    async def close(self) -> None:
        """Releases what the store holds."""


class EventFeed(Protocol):
    """Everything that is recorded by all servers of a store, for about the last minutes."""

    async def newest(self) -> str:
        """Returns the position behind everything recorded so far."""

    async def since(self, position: str, *, limit: int = 1_000) -> FeedPage:
        """Returns what was recorded since a position, oldest first, at most about `limit`."""


@runtime_checkable
class RecordSource(Protocol):
    """Records that wait for the event log, oldest first."""

    async def waiting(self, *, limit: int = 10_000) -> list[LogRecord]:
        """Returns the oldest records that `logged` was not called for."""

    async def logged(self, records: Sequence[LogRecord]) -> None:
        """Says that records are in the log, on the disk; they need not be kept for it."""
