"""Records events of a visitor: the one way from a call to the session store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shopintent.artifacts.event_log import IMPRESSION
from shopintent.behavior import Event
from shopintent.server.deadlines import Deadline
from shopintent.server.services import convert
from shopintent.server.services.consistency_token import consistency_token
from shopintent.server.sessions import SessionStore
from shopintent.v1 import user_event_pb2


@dataclass(frozen=True)
class Recorded:
    """What became of the events of a request."""

    count: int
    """How many were new."""
    behavior: list[Event]
    """Those that predictions read, whether new or not."""
    consistency_token: str


@dataclass(frozen=True, eq=False)
class Recorder:
    """Writes into the session store; `on_recorded` is called when something new was recorded."""

    sessions: SessionStore
    on_recorded: Callable[[], None] | None = None

    async def record(
        self,
        visitor: str,
        alias: str,
        messages: Iterable[user_event_pb2.UserEvent],
        *,
        now: int,
        deadline: Deadline,
    ) -> Recorded:
        """Records events, all or none. Raises StateUnavailable and Overloaded.

        `visitor` and `alias` are keys; what `alias` did joins what the visitor did.
        """
        tracked = [convert.tracked_event(each, received_at=now) for each in messages]
        appended = await self.sessions.append(
            visitor, tracked, alias=alias, timeout_s=deadline.share_s()
        )
        if self.on_recorded is not None and any(appended.new):
            self.on_recorded()
        return Recorded(
            sum(appended.new),
            [each.event for each in tracked if each.event.event_type != IMPRESSION],
            consistency_token(appended.position),
        )
