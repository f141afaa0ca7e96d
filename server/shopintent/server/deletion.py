"""Deletes a visitor from every store, and searches every store for one."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions import Deleted, SessionStore

SESSIONS, EVENT_LOG, COUNTERS = "sessions", "event-log", "counters"

SEARCHED_ANYWHERE = 16
"""Characters from which on an id is searched among all bytes of the log. A shorter one is found
by chance, in a number or within another word, so only as a whole key such as "user:42"."""


@dataclass(frozen=True)
class StoreCount:
    """How much of a visitor one store held, or holds."""

    store: str
    unit: str
    """What is counted, such as "events"."""
    count: int


@dataclass(frozen=True)
class Receipt:
    """What was deleted of a visitor, and when."""

    receipt_id: str
    """Random; it tells nothing of the visitor."""
    delete_time: float
    """Unix seconds at which it began: events that happened until then are dropped."""
    stores: tuple[StoreCount, ...]
    """Every store once, also where it held nothing."""


class ErasableLog(Protocol):
    """What of the event log is needed here."""

    async def delete(self, pseudonyms: Collection[str]) -> int:
        """Deletes everything written of shoppers so far; returns the number of records.

        Whom they logged in as, or were before they did, goes with them. Files are rewritten by
        another process, which may take minutes. Raises StateUnavailable.
        """

    async def search(self, texts: Collection[str]) -> int:
        """Returns how often the texts occur in the files. Raises StateUnavailable."""


class VisitorEraser:
    """Deletes visitors; a server that keeps no event log has none here.

    A visitor is named by all keys that are known of them: "user:..", "visitor:..", "session:..".
    Both methods raise StateUnavailable when a store does not answer; call them again then, which
    finishes what is left. `clock` tells unix seconds.
    """

    def __init__(
        self,
        sessions: SessionStore,
        pseudonyms: Pseudonyms,
        log: ErasableLog | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._pseudonyms = pseudonyms
        self._log = log
        self._clock = clock

    async def delete(self, keys: Sequence[str], *, timeout_s: float) -> Receipt:
        """Deletes a visitor everywhere; `timeout_s` is for the sessions, once for each key."""
        delete_time = self._clock()
        # First: from then on nothing of the visitor comes to the log any more.
        deleted = [await self._sessions.delete(key, timeout_s=timeout_s) for key in keys]
        records = 0
        if self._log is not None:
            records = await self._log.delete(self._pseudonyms_of({*keys, *_visitors(deleted)}))
        events = sum(each.event_count for each in deleted)
        stores = (
            StoreCount(SESSIONS, "events", events),
            StoreCount(EVENT_LOG, "records", records),
            # They know nobody: what the sessions gave up is taken from them through the feed.
            StoreCount(COUNTERS, "events", events),
        )
        return Receipt(secrets.token_hex(16), delete_time, stores)

    async def verify(self, keys: Sequence[str], *, timeout_s: float) -> tuple[StoreCount, ...]:
        """Returns what each store still holds of a visitor, in rows and in bytes of its files."""
        found, occurrences = await asyncio.gather(
            asyncio.gather(*(self._sessions.find(key, timeout_s=timeout_s) for key in keys)),
            self._occurrences(keys),
        )
        traces = sum(each.event_count + each.link_count for each in found)
        return (
            StoreCount(SESSIONS, "traces", traces),
            StoreCount(EVENT_LOG, "traces", occurrences),
            # Of product ids alone: what was taken back can not be asked for by visitor.
            StoreCount(COUNTERS, "events", 0),
        )

    async def _occurrences(self, keys: Sequence[str]) -> int:
        if self._log is None:
            return 0
        ids = [key.partition(":")[2] for key in keys]
        long_ids = [each for each in ids if len(each) >= SEARCHED_ANYWHERE]
        return await self._log.search({*self._pseudonyms_of(keys), *keys, *long_ids})

    def _pseudonyms_of(self, keys: Collection[str]) -> set[str]:
        return {name for key in keys for name in self._pseudonyms.pseudonyms(key)}


def _visitors(deleted: Sequence[Deleted]) -> set[str]:
    return {visitor for each in deleted for visitor in each.visitors}
