"""One deadline for a whole request, cut anew for every hop from what is left of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

SHORTEST_S = 0.001
"""What a hop gets when nothing is left: it fails at once, and in the way a slow hop does."""

RESERVE = 0.05
"""The share of a caller's deadline kept for sending the answer."""


@dataclass(frozen=True)
class Deadline:
    """The moment by which an answer must be ready."""

    ends_at: float
    """In seconds of time.monotonic()."""

    @classmethod
    def for_call(cls, time_remaining_s: float | None, *, at_most_s: float) -> Deadline:
        """Returns the deadline of a call whose caller waits so long, or says nothing (None)."""
        budget_s = at_most_s if time_remaining_s is None else time_remaining_s * (1 - RESERVE)
        return cls(time.monotonic() + min(budget_s, at_most_s))

    def sooner(self, share: float) -> Deadline:
        """Returns the moment when this share of what is left now will be used up."""
        now = time.monotonic()
        return Deadline(now + (self.ends_at - now) * share)

    def share_s(self, share: float = 1.0) -> float:
        """Returns the timeout of a hop that may use this share of what is left now."""
        return max(SHORTEST_S, (self.ends_at - time.monotonic()) * share)
