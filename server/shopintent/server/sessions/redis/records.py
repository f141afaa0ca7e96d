"""Records that wait in Redis for the event log."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from shopintent.artifacts.event_log import LogRecord
from shopintent.server.sessions.redis.layout import Partition
from shopintent.server.sessions.redis.link import in_time
from shopintent.server.sessions.redis.state import RedisState

TIMEOUT_S = 5.0
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
        share = max(1, limit // len(self._partitions))
        async with in_time(TIMEOUT_S):
            found = await self._all_waiting(dict.fromkeys(self._partitions.values(), share))
            full = [each for each, records in found.items() if len(records) == share]
            spare = limit - sum(map(len, found.values()))
            if full and spare >= len(full):
                more = dict.fromkeys(full, share + spare // len(full))
                found |= await self._all_waiting(more)
        records = (record for records in found.values() for record in records)
        return sorted(records, key=attrgetter("sequence"))

    async def logged(self, records: Sequence[LogRecord]) -> None:
        """Drops records that are in the log, on the disk. Raises StateUnavailable."""
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for record in records:
            numbers[record.source].append(record.sequence)
        async with in_time(TIMEOUT_S):
            await asyncio.gather(*(self._logged(*each) for each in numbers.items()))

    async def _all_waiting(
        self, limits: Mapping[Partition, int]
    ) -> dict[Partition, list[LogRecord]]:
        # All at once, so that it is one round trip.
        found = await asyncio.gather(*(self._waiting(*each) for each in limits.items()))
        return dict(zip(limits, found, strict=True))

    async def _waiting(self, partition: Partition, limit: int) -> list[LogRecord]:
        epoch, entries = await self._link.run(
            "waiting",
            [partition.itself, partition.log],
            [self._consumer, limit, DEAD_AFTER_S],
        )
        source = f"redis-{partition.name}-{epoch.decode()}"
        return [_record(source, *entry) for entry in entries]

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


def _record(source: str, number: bytes, fields: list[bytes]) -> LogRecord:
    record: dict[str, Any] = json.loads(fields[1])
    sequence = int(number.partition(b"-")[0])
    return LogRecord.from_fields({**record, "source": source, "sequence": sequence})
