"""How much a store of sessions holds."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 24 * 60 * 60
IDS_PER_EVENT = 20
"""Event ids known of a visitor, for each event that is read of one."""
MAX_ALIASES = 100
"""Anonymous keys that stay joined with a visitor: the newest, for those who never keep a cookie."""
FEED_S = 60.0
"""Seconds for which the feed tells what was recorded."""


@dataclass(frozen=True)
class Limits:
    """What is forgotten, oldest first, where there is more. Raises ValueError."""

    max_visitors: int = 100_000
    max_events: int = 200
    """Read of each visitor."""
    idle_s: float = 30 * DAY_S
    """After so many seconds without an event a visitor is forgotten."""

    def __post_init__(self) -> None:
        if self.max_visitors < 1 or self.max_events < 1 or self.idle_s <= 0:
            raise ValueError("max_visitors, max_events and idle_s must be above 0")

    @property
    def max_ids(self) -> int:
        """Event ids known of each visitor."""
        return self.max_events * IDS_PER_EVENT
