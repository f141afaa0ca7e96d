"""What the parts of the sessions in Redis share: the link, where things are, and the limits."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions.limits import Limits
from shopintent.server.sessions.positions import new_epoch
from shopintent.server.sessions.redis.layout import Layout, Place
from shopintent.server.sessions.redis.link import RedisLink, Value

SECRET_BYTES = 16
SPARE_S = 60
"""For which a key outlives its visitor: the scripts know better who is idle."""


@dataclass(frozen=True)
class RedisState:
    """Runs scripts with what all of them are told."""

    link: RedisLink
    layout: Layout
    names: Pseudonyms | None
    """What the event log calls visitors; None where there is no log."""
    limits: Limits
    max_unlogged: int
    """Records that wait for the event log."""
    clock: Callable[[], float]

    @cached_property
    def ttl_s(self) -> int:
        """Seconds for which a key lives that is not written."""
        return math.ceil(self.limits.idle_s) + SPARE_S

    def age(self) -> list[Value]:
        """Returns what a script is told that reads: the time, and who is idle."""
        return [self.clock(), self.limits.idle_s, self.ttl_s]

    def limits_of(self, place: Place) -> list[Value]:
        """Returns what a script is told that writes: `age`, the limits, and where."""
        n_partitions = len(self.layout.partitions)
        return [
            *self.age(),
            self.limits.max_events,
            self.limits.max_ids,
            math.ceil(self.limits.max_visitors / n_partitions),
            math.ceil(self.max_unlogged / n_partitions),
            # An epoch and a secret, should the partition have none.
            new_epoch() + secrets.token_hex(SECRET_BYTES),
            place.partition.prefix,
            place.visitor,
        ]

    def pseudonym(self, visitor: str) -> str:
        """Returns what the event log calls a visitor from now on; empty when there is no log."""
        return self.names.pseudonym(visitor) if self.names else ""

    def pseudonyms(self, visitor: str) -> tuple[str, ...]:
        """Returns everything that the event log may call a visitor."""
        return self.names.pseudonyms(visitor) if self.names else ()
