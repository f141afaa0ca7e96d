"""Sessions: the behavior of each visitor, as tracked so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shopintent.behavior import Event


@dataclass(frozen=True)
class TrackedEvent:
    """An event as it was tracked."""

    event: Event
    event_id: str = ""
    """The caller's id; empty events are never taken for repeats."""
    attribution_token: str = ""


class SessionStore(Protocol):
    """The newest events of every visitor, in bounded memory."""

    async def append(self, visitor: str, events: Sequence[TrackedEvent]) -> int:
        """Adds events, all or none, and returns how many were new.

        An event whose `event_id` the store still holds for the visitor is not added again. Once it
        returns, `recent` sees the events.
        """

    async def recent(self, visitor: str) -> list[Event]:
        """Returns the newest events of the visitor by time, oldest first; none when unknown."""

    async def close(self) -> None:
        """Releases what the store holds."""
