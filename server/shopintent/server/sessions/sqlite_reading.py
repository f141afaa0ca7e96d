"""Reads visitors' histories from the file of the sessions.

Every read asks for the visitor's version, so what one process acknowledged all others see at once;
the events are read again only when it changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from shopintent.behavior import Event
from shopintent.server.cache import LruCache
from shopintent.server.sessions import EMPTY_HISTORY, History
from shopintent.server.sessions.limits import Limits

FIND = """
SELECT id, version, last_seen FROM visitor WHERE id = (SELECT visitor FROM name WHERE key = ?)
"""
READ = """
SELECT event_type, event_time, product_id, category, search_query, quantity FROM event
WHERE visitor = ? AND sequence > ? AND sequence <= ? ORDER BY event_time DESC, sequence DESC LIMIT ?
"""


@dataclass(frozen=True, eq=False)
class Held:
    """The history of a visitor as it was at a version."""

    visitor_id: int
    version: int
    history: History


NOBODY = Held(0, 0, EMPTY_HISTORY)


class Histories:
    """Reads through a connection, and keeps up to `cached` histories that were read."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        limits: Limits,
        clock: Callable[[], float],
        *,
        cached: int,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._clock = clock
        self._held: LruCache[int, Held] = LruCache(max_entries=cached)

    def of(self, visitor: str) -> Held:
        """Returns the history of whom a key means; NOBODY's when unknown."""
        row = self._connection.execute(FIND, (visitor,)).fetchone()
        if row is None or self._clock() - row[2] > self._limits.idle_s:
            return NOBODY
        visitor_id, version, _ = row
        held = self._held.get(visitor_id) or Held(visitor_id, -1, EMPTY_HISTORY)
        if held.version != version:
            held = Held(visitor_id, version, self._history_between(held, version))
            self._held.put(visitor_id, held)
        return held

    def _history_between(self, held: Held, version: int) -> History:
        """Returns what is held and the events added until a version.

        It is the same object when there are none. What is added while it reads comes next time.
        """
        max_events = self._limits.max_events
        added = self._connection.execute(READ, (held.visitor_id, held.version, version, max_events))
        # The sort is stable: of one time, what was held comes first.
        events = [*held.history.events, *(Event(*row) for row in reversed(added.fetchall()))]
        if len(events) == len(held.history.events):
            return held.history
        events.sort(key=attrgetter("event_time"))
        return History(tuple(events[-max_events:]))
