"""Sessions: the behavior of each visitor, as tracked so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from shopintent.behavior import Event

IDEMPOTENT_S = 24 * 60 * 60
"""Seconds for which an event id is known, whether or not its event is still among the newest."""


@dataclass(frozen=True)
class TrackedEvent:
    """An event as it was tracked."""

    event: Event
    event_id: str = ""
    """The caller's id; empty events are never taken for repeats."""
    attribution_token: str = ""


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


class SessionStore(Protocol):
    """The newest events of every visitor, in bounded memory."""

    async def append(
        self, visitor: str, events: Sequence[TrackedEvent], *, timeout_s: float
    ) -> list[bool]:
        """Adds events, all or none, and returns of each whether it was new.

        An event whose `event_id` was added for the visitor in the last `IDEMPOTENT_S` seconds is
        not added again. Once it returns, `recent` sees the events.
        """

    async def recent(self, visitor: str) -> History:
        """Returns what the visitor did; EMPTY_HISTORY when unknown."""

    async def close(self) -> None:
        """Releases what the store holds."""
