"""Reads the behavior of a visitor as a request asks for it."""

from __future__ import annotations

from collections.abc import Iterable

from shopintent.server.deadlines import Deadline
from shopintent.server.hydrate import Degraded
from shopintent.server.services import convert
from shopintent.server.services.consistency_token import position_of
from shopintent.server.sessions import EMPTY_HISTORY, BehaviorBehind, History, SessionStore
from shopintent.v1 import user_event_pb2

SESSION_SHARE = 0.3
"""Of the time left, what reading a session may take, and waiting for what a token stands for."""

NOTHING: frozenset[Degraded] = frozenset()
BEHAVIOR_UNAVAILABLE = frozenset({Degraded.BEHAVIOR_UNAVAILABLE})


async def read_history(
    sessions: SessionStore, visitor: str, token: str, deadline: Deadline
) -> tuple[History, frozenset[Degraded]]:
    """Returns what a visitor did and what is missing of it: up to a consistency token, if given.

    It is the store's own object, with which its tokens are kept. Raises StateUnavailable.
    """
    if not visitor:
        return EMPTY_HISTORY, NOTHING
    timeout_s = deadline.share_s(SESSION_SHARE)
    if not token:
        return await sessions.recent(visitor, timeout_s=timeout_s), NOTHING
    try:
        position = position_of(token)
        return await sessions.recent(visitor, position=position, timeout_s=timeout_s), NOTHING
    except BehaviorBehind as behind:
        return behind.history, BEHAVIOR_UNAVAILABLE
    except ValueError:
        # A position of another kind of store: of the one that this server had before.
        return await sessions.recent(visitor, timeout_s=timeout_s), BEHAVIOR_UNAVAILABLE


def with_recent(
    history: History, recent_events: Iterable[user_event_pb2.UserEvent], *, now: int
) -> History:
    """Returns the history followed by events that were not tracked."""
    recent = convert.behavior_events(recent_events, received_at=now)
    return History((*history.events, *recent)) if recent else history
