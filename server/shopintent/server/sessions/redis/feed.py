"""What all servers of a Redis recorded lately, for the counters of what is popular."""

from __future__ import annotations

import asyncio
import json
import re
from operator import itemgetter

from shopintent.server.sessions import Counted, FeedPage
from shopintent.server.sessions.redis.layout import Partition
from shopintent.server.sessions.redis.link import in_time
from shopintent.server.sessions.redis.state import RedisState

TIMEOUT_S = 2.0
NUMBER = re.compile(r"[0-9]{1,18}")


class RedisFeed:
    """An EventFeed: a stream of each partition, read without a group from where a reader is."""

    def __init__(self, state: RedisState) -> None:
        self._link = state.link
        self._partitions = state.layout.partitions

    async def newest(self) -> str:
        """Returns the position behind everything recorded so far. Raises StateUnavailable."""
        async with in_time(TIMEOUT_S):
            # All at once, so that it is one round trip.
            last = await asyncio.gather(
                *(self._link.command("HGET", each.itself, "last") for each in self._partitions)
            )
        return ".".join("0" if each is None else each.decode() for each in last)

    async def since(self, position: str, *, limit: int = 1_000) -> FeedPage:
        """Returns what was recorded since a position, oldest first, at most about `limit`.

        Raises StateUnavailable, and ValueError for a text that is no position.
        """
        after = position.split(".")
        if len(after) != len(self._partitions) or not all(
            map(re.compile(r"\d{1,18}").fullmatch, after)
        ):
            raise ValueError(f"{position!r} is no position of a feed in Redis")
        share = max(1, limit // len(self._partitions))
        async with in_time(TIMEOUT_S):
            pages = await asyncio.gather(
                *(
                    self._page(partition, number, share)
                    for partition, number in zip(self._partitions, after, strict=True)
                )
            )
        told = sorted((each for page, _ in pages for each in page), key=itemgetter(0))
        events = [Counted(*event) for _, texts in told for event in json.loads(b"[%b]" % texts)]
        return FeedPage(events, ".".join(number for _, number in pages))

    async def _page(
        self, partition: Partition, after: str, limit: int
    ) -> tuple[list[tuple[int, bytes]], str]:
        """Returns numbered events of a partition, and the number up to which they are."""
        entries = await self._link.command(
            "XRANGE", partition.feed, f"({after}-0", "+", "COUNT", limit
        )
        page = [(int(number.partition(b"-")[0]), _only(fields)) for number, fields in entries]
        return page, str(page[-1][0]) if page else after


def _only(fields: list[bytes] | dict[bytes, bytes]) -> bytes:
    """Returns the one field of an entry; of a cluster redis-py makes it a dictionary."""
    return fields[b"c"] if isinstance(fields, dict) else fields[1]
