"""Appends to a session file until it is killed: `python -m support.tracking FILE ROUND`.

Prints the number of every batch once it is acknowledged. A batch is two events of one visitor and,
every third time, a batch sent before. Every fifth time the visitor logs in on some device.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from shopintent.behavior import Event
from shopintent.server.sessions import TrackedEvent
from shopintent.server.sessions.sqlite import SqliteSessions
from support.session_suite import KEYRING

VISITORS = 7


def batch(round_number: int, number: int) -> tuple[str, list[TrackedEvent]]:
    """Returns whose the events of a batch are, and the events."""
    names = [f"{round_number}.{number}.{part}" for part in "ab"]
    events = [TrackedEvent(Event("view-product", number, name), name) for name in names]
    return f"v{number % VISITORS}", events


async def track(path: Path, round_number: int) -> None:
    sessions = SqliteSessions.open(path, max_events=1_000_000, pseudonyms=KEYRING)
    numbers = count()

    async def send() -> None:
        for number in numbers:
            for sent in (number, number // 2) if number % 3 == 0 else (number,):
                visitor, events = batch(round_number, sent)
                alias = f"device {number % 11}" if number % 5 == 0 else ""
                await sessions.append(visitor, events, timeout_s=10, alias=alias)
            print(number, flush=True)

    await asyncio.gather(*(send() for _ in range(4)))


if __name__ == "__main__":
    asyncio.run(track(Path(sys.argv[1]), int(sys.argv[2])))
