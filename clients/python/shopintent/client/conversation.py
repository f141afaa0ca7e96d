"""What a stream of intents has to send, and to send again after its call broke.

The same for both clients, which only differ in how they wait.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

import grpc

from shopintent.client import calls
from shopintent.client.errors import Failure, ShopIntentError, UnavailableError
from shopintent.v1.recommendation_service_pb2 import StreamIntentsRequest, StreamIntentsResponse
from shopintent.v1.user_event_pb2 import UserEvent, Visitor

MAX_UNANSWERED = 100
"""Requests kept while the server does not answer."""
SHORTEST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0

ENDED = Failure(grpc.StatusCode.UNAVAILABLE, "the server ended the stream without an answer")
TOO_MANY = Failure(
    grpc.StatusCode.UNAVAILABLE,
    f"{MAX_UNANSWERED} requests wait for an answer already; these events were not taken",
)


class Conversation:
    """The requests of one visit that were not answered yet, in order."""

    def __init__(self, visitor: str | Visitor, consistency_token: str) -> None:
        self._visitor = calls.to_visitor(visitor)
        """As of the last answer; requests that wait may replace it."""
        self.token = consistency_token
        self._unanswered: deque[StreamIntentsRequest] = deque()
        self._n_failures = 0

    def add(self, events: Iterable[UserEvent], visitor: str | Visitor | None) -> None:
        """Takes events to send; each has an id from now on. Raises UnavailableError."""
        if len(self._unanswered) >= MAX_UNANSWERED:
            raise UnavailableError(TOO_MANY)
        request = calls.stream_intents("" if visitor is None else visitor, events).request
        if visitor is None:
            request.ClearField("visitor")
        self._unanswered.append(request)

    def next(self, *, is_first: bool) -> StreamIntentsRequest | None:
        """Returns what to send now; the first of a call says who it is about, and goes on where
        the call before ended.
        """
        if not self._unanswered:
            return None
        request = self._unanswered[0]
        if is_first:
            resumed = StreamIntentsRequest(visitor=self._visitor, consistency_token=self.token)
            resumed.MergeFrom(request)
            return resumed
        return request

    def answered(self, response: StreamIntentsResponse) -> None:
        """Takes the answer to the request that was sent last."""
        request = self._unanswered.popleft()
        if request.HasField("visitor"):
            self._visitor = request.visitor
        self.token = response.consistency_token
        self._n_failures = 0

    def wait_after(self, error: ShopIntentError) -> float:
        """Returns the seconds after which to try again.

        Raises the error when that does not help; the request is dropped then, and the next is sent.
        """
        if not may_help(error):
            self._unanswered.popleft()
            raise error
        backoff_s = min(SHORTEST_WAIT_S * 2.0**self._n_failures, LONGEST_WAIT_S)
        self._n_failures += 1
        # Many streams break at once when a server ends; they must not all come back at once.
        return (error.retry_after_s or 0.0) + backoff_s * random.random()


def may_help(error: ShopIntentError) -> bool:
    """Returns whether another try may succeed where this one failed."""
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return error.retry_after_s is not None
    # Cancelled calls are those of a server that ended; our own raise nothing.
    return error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def not_in_time(timeout_s: float) -> Failure:
    """Returns the failure of a request that was not answered."""
    what = f"no answer within {timeout_s:g} s; the events are sent again with the next"
    return Failure(grpc.StatusCode.DEADLINE_EXCEEDED, what)
