"""What the tests of every store of sessions share. A store joins the suite in STORES below.

The promises are in tests/contract: test_sessions.py (appending and reading), test_session_joins.py,
test_session_deletion.py, test_session_feed.py and, for stores that have records for the event log,
test_session_records.py. The fixtures that make stores are in tests/contract/conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from shopintent.behavior import Event
from shopintent.server.pseudonyms import Keyring, PseudonymKey
from shopintent.server.sessions import EventFeed, RecordSource, SessionStore, TrackedEvent
from shopintent.server.sessions.memory import InMemorySessions
from shopintent.server.sessions.redis import RedisSessions
from shopintent.server.sessions.sqlite import SqliteSessions
from support.redis_server import emptied_redis

MAX_EVENTS = 5
MAX_VISITORS = 3
IDLE_S = 1_000.0
KEYRING = Keyring((PseudonymKey("k2", b"the new secret"), PseudonymKey("k1", b"the old secret")))


@dataclass
class Clock:
    """Tells unix seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Store(SessionStore, EventFeed, Protocol):
    """What every store is."""


class LoggedStore(Store, RecordSource, Protocol):
    """A store with records for the event log."""


class MakeStore(Protocol):
    """Makes an empty store."""

    def __call__(
        self,
        clock: Clock,
        *,
        max_visitors: int = MAX_VISITORS,
        max_events: int = MAX_EVENTS,
        idle_s: float = IDLE_S,
    ) -> Store: ...


class MakeLoggedStore(Protocol):
    """Makes an empty store whose records have pseudonyms of KEYRING."""

    def __call__(self, clock: Clock) -> LoggedStore: ...


def in_memory(folder: Path) -> MakeStore:
    def make(
        clock: Clock,
        *,
        max_visitors: int = MAX_VISITORS,
        max_events: int = MAX_EVENTS,
        idle_s: float = IDLE_S,
    ) -> Store:
        return InMemorySessions(
            max_visitors=max_visitors, max_events=max_events, idle_s=idle_s, clock=clock
        )

    return make


def in_sqlite(folder: Path) -> MakeStore:
    numbers = count()

    def make(
        clock: Clock,
        *,
        max_visitors: int = MAX_VISITORS,
        max_events: int = MAX_EVENTS,
        idle_s: float = IDLE_S,
    ) -> Store:
        return SqliteSessions.open(
            folder / f"{next(numbers)}.sqlite",
            max_visitors=max_visitors,
            max_events=max_events,
            idle_s=idle_s,
            clock=clock,
        )

    return make


def logged_in_sqlite(folder: Path) -> MakeLoggedStore:
    numbers = count()

    def make(clock: Clock) -> LoggedStore:
        return SqliteSessions.open(
            folder / f"logged-{next(numbers)}.sqlite", pseudonyms=KEYRING, clock=clock
        )

    return make


def in_redis(folder: Path) -> MakeStore:
    """Stores in a database each of a Redis that is emptied for every test."""
    databases = emptied_redis()

    def make(
        clock: Clock,
        *,
        max_visitors: int = MAX_VISITORS,
        max_events: int = MAX_EVENTS,
        idle_s: float = IDLE_S,
    ) -> Store:
        return RedisSessions.open(
            next(databases),
            survives_power_loss=False,
            max_visitors=max_visitors,
            max_events=max_events,
            idle_s=idle_s,
            # Of 16 each would have a share of the few visitors.
            n_partitions=1,
            clock=clock,
        )

    return make


def logged_in_redis(folder: Path) -> MakeLoggedStore:
    databases = emptied_redis()

    def make(clock: Clock) -> LoggedStore:
        return RedisSessions.open(
            next(databases),
            survives_power_loss=False,
            pseudonyms=KEYRING,
            n_partitions=1,
            clock=clock,
        )

    return make


STORES: dict[str, Callable[[Path], MakeStore]] = {
    "memory": in_memory,
    "sqlite": in_sqlite,
    "redis": in_redis,
}
LOGGED_STORES: dict[str, Callable[[Path], MakeLoggedStore]] = {
    "sqlite": logged_in_sqlite,
    "redis": logged_in_redis,
}


def view(product_id: str, event_time: int, event_id: str = "") -> TrackedEvent:
    return TrackedEvent(Event("view-product", event_time, product_id), event_id)


async def append(
    sessions: SessionStore, visitor: str, events: list[TrackedEvent], alias: str = ""
) -> list[bool]:
    """Returns of each event whether it was new."""
    return (await sessions.append(visitor, events, timeout_s=30, alias=alias)).new


async def events_of(sessions: SessionStore, visitor: str = "v") -> list[Event]:
    return list((await sessions.recent(visitor)).events)


async def seen(sessions: SessionStore, visitor: str = "v") -> list[str]:
    """Returns the products of the visitor's events."""
    return [event.product_id for event in await events_of(sessions, visitor)]
