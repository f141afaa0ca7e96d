"""Records that wait in Redis for the event log."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import attrgetter

from shopintent.artifacts.event_log import LogRecord
from shopintent.server.sessions.redis.layout import Partition
from shopintent.server.sessions.redis.link import in_time
from shopintent.server.sessions.redis.state import RedisState

TIMEOUT_S = 10.0
DEAD_AFTER_S = 10.0
"""After which the records of a consumer are another's; one that lives says sooner what is done."""
AT_ONCE = 1_000
"""Records dropped by one script."""
SOURCE = re.compile(r"redis-(p\d\d)-([0-9a-f]{16})")


class RedisRecords:
    """A RecordSource: the consumer group "log" of a stream of each partition.

    One process of a machine may read at a time; that of another machine takes over what it left
    when it died. Every partition is a source of its own, and its records come in order.
    """

    def __init__(self, state: RedisState, *, consumer: str = "") -> None:
        self._link = state.link
        self._partitions = {each.name: each for each in state.layout.partitions}
        self._consumer = consumer or socket.gethostname()

    async def waiting(self, *, limit: int = 10_000) -> list[LogRecord]:
        """Returns the oldest records that `logged` was not called for. Raises StateUnavailable."""
        async with in_time(TIMEOUT_S):
            counts = await self._counts()
            # All at once, so that it is one round trip.
            found = await asyncio.gather(
                *(self._waiting(*each) for each in _shares(counts, limit).items())
            )
        records = (record for records in found for record in records)
        return sorted(records, key=attrgetter("sequence"))

    async def logged(self, records: Sequence[LogRecord]) -> None:
        """Drops records that are in the log, on the disk. Raises StateUnavailable."""
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for record in records:
            numbers[record.source].append(record.sequence)
        async with in_time(TIMEOUT_S):
            await asyncio.gather(*(self._logged(*each) for each in numbers.items()))

    async def _counts(self) -> dict[Partition, int]:
        """Returns how many records wait in each partition."""
        partitions = self._partitions.values()
        counts = await asyncio.gather(
            *(self._link.command("HGET", each.itself, "unlogged") for each in partitions)
        )
        return dict(zip(partitions, (int(each or 0) for each in counts), strict=True))

    async def _waiting(self, partition: Partition, limit: int) -> list[LogRecord]:
        epoch, numbers, lines = await self._link.run(
            "waiting",
            [partition.itself, partition.log],
            [self._consumer, limit, DEAD_AFTER_S],
        )
        source = f"redis-{partition.name}-{epoch.decode()}"
        texts = b",".join(lines.splitlines())
        return [
            LogRecord.from_fields({**fields, "source": source, "sequence": int(number)})
            for number, fields in zip(numbers.split(), json.loads(b"[%b]" % texts), strict=True)
        ]

    async def _logged(self, source: str, numbers: list[int]) -> None:
        match = SOURCE.fullmatch(source)
        if match is None:
            raise ValueError(f"{source!r} is no source of records in Redis")
        partition = self._partitions[match[1]]
        for start in range(0, len(numbers), AT_ONCE):
            await self._link.run(
                "logged",
                [partition.itself, partition.log],
                [match[2], *numbers[start : start + AT_ONCE]],
            )


def _shares(counts: Mapping[Partition, int], limit: int) -> dict[Partition, int]:
    """Returns how many records to take from each partition: the same, where it has as many."""
    shares = {}
    for left, partition in zip(
        range(len(counts), 0, -1), sorted(counts, key=counts.__getitem__), strict=True
    ):
        share = min(counts[partition], max(1, limit // left))
        if share > 0:
            shares[partition] = share
        limit -= share
    return shares
