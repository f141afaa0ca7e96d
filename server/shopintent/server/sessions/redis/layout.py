"""Where things are in Redis: partitions, the names of keys, and positions.

All keys of a visitor carry the hash tag of one partition, so that a script finds them in one slot
of a cluster. The number of partitions is part of the format: every server must use the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

PREFIX = "shopintent:"
PARTITIONS = 16
DIGEST_BYTES = 12
"""Of an event id: some two of a visitor's thousands are the same once in 10^20 visitors."""
NO_DIGEST = b" " * 16
NUMBER = r"(?:0|[1-9]\d{0,17})"
POSITION = re.compile(rf"(p\d\d)\.([0-9a-f]{{16}})\.({NUMBER})", re.ASCII)


@dataclass(frozen=True)
class Partition:
    """A part of the visitors, with a feed and a log of its own."""

    name: str
    """Such as "p07"."""

    @property
    def prefix(self) -> str:
        """What all its keys begin with."""
        return f"{PREFIX}{{{self.name}}}:"

    @property
    def itself(self) -> str:
        """A hash: `epoch`, `secret`, the `last` number used, how many records are `unlogged`."""
        return f"{self.prefix}partition"

    @property
    def feed(self) -> str:
        """A stream of what the counters count, of the last minute or so; it names nobody."""
        return f"{self.prefix}feed"

    @property
    def log(self) -> str:
        """A stream of the records that are not in the event log yet."""
        return f"{self.prefix}log"

    @property
    def seen(self) -> str:
        """A sorted set: the visitors, the longest unheard of first."""
        return f"{self.prefix}seen"


@dataclass(frozen=True)
class Place:
    """Where a visitor is held."""

    partition: Partition
    visitor: str

    @property
    def itself(self) -> str:
        """A hash: its positions, aliases and, for an alias, whom it means."""
        return f"{self.partition.prefix}visitor:{self.visitor}"

    @property
    def events(self) -> str:
        """A sorted set by event time: a number, the digest of its id, and each event."""
        return f"{self.partition.prefix}events:{self.visitor}"

    @property
    def ids(self) -> str:
        """A sorted set by the time of adding: digests of the event ids."""
        return f"{self.partition.prefix}ids:{self.visitor}"

    @property
    def shown(self) -> str:
        """The same of impressions, so that they never crowd events out."""
        return f"{self.partition.prefix}shown:{self.visitor}"

    @property
    def keys(self) -> list[str]:
        """All keys of a visitor."""
        return [self.itself, self.events, self.ids, self.shown]


@dataclass(frozen=True)
class Position:
    """All that was recorded of a visitor up to a number."""

    partition: str
    epoch: str
    number: str

    def __str__(self) -> str:
        return f"{self.partition}.{self.epoch}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads a position. Raises ValueError for any other text."""
        match = POSITION.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no position of sessions in Redis")
        return cls(*match.groups())


class Layout:
    """Which partition is whose."""

    def __init__(self, n_partitions: int = PARTITIONS) -> None:
        self.partitions: Sequence[Partition] = [
            Partition(f"p{number:02d}") for number in range(n_partitions)
        ]

    def place(self, visitor: str) -> Place:
        """Returns where a visitor is held: the same for every server."""
        number = zlib.crc32(visitor.encode()) % len(self.partitions)
        return Place(self.partitions[number], visitor)


def event_id_digest(event_id: str) -> bytes:
    """Returns what is held of an event id: 16 bytes, however long the id is; nothing of none."""
    if not event_id:
        return b""
    digest = hashlib.blake2b(event_id.encode(), digest_size=DIGEST_BYTES).digest()
    return base64.b64encode(digest)
