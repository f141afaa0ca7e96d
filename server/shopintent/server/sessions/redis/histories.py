"""The histories of visitors as they were last seen, so that only what changed is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from shopintent.behavior import Event
from shopintent.server.cache import LruCache
from shopintent.server.sessions import EMPTY_HISTORY, History


@dataclass(frozen=True, eq=False)
class Held:
    """The history of a visitor as it was at a number."""

    born: bytes
    """Tells the visitor from another of the same key, before or after a deletion."""
    number: bytes
    history: History


NOTHING_HELD = Held(b"", b"", EMPTY_HISTORY)


class Histories:
    """Holds the newest `max_events` events of each visitor, of at most `max_cached` visitors."""

    def __init__(self, *, max_cached: int, max_events: int) -> None:
        self._held: LruCache[str, Held] = LruCache(max_entries=max_cached)
        self._max_events = max_events

    def get(self, visitor: str) -> Held:
        """Returns what is held."""
        return self._held.get(visitor) or NOTHING_HELD

    def forget(self, visitor: str) -> None:
        """Holds nothing of a visitor any more."""
        self._held.discard(visitor)

    def read(
        self, visitor: str, before: History, born: bytes, number: bytes, added: Sequence[Event]
    ) -> History:
        """Holds a history and what was added to it up to a number; returns what is held then.

        That is something newer where there was an append meanwhile.
        """
        held = self.get(visitor)
        if held.born == born and int(held.number) >= int(number):
            return held.history
        history = self._with(before, added)
        self._held.put(visitor, Held(born, number, history))
        return history

    def append(
        self, visitor: str, born: bytes, before: bytes, number: bytes, added: Sequence[Event]
    ) -> None:
        """Adds events to what is held, where that is all there was before them."""
        held = self.get(visitor)
        if before == b"0" and number != before:
            held = Held(born, before, EMPTY_HISTORY)
        if held.born == born and held.number == before:
            self._held.put(visitor, Held(born, number, self._with(held.history, added)))

    def _with(self, history: History, added: Sequence[Event]) -> History:
        """Returns a history and the events added since; the same object when there are none."""
        if not added:
            return history
        # The sort is stable: of one time, what was held comes first.
        events = sorted([*history.events, *added], key=attrgetter("event_time"))
        return History(tuple(events[-self._max_events :]))
