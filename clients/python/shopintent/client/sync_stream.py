"""A stream of intents, blocking."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, Self, cast

import grpc

from shopintent.client.channel import StreamChannels
from shopintent.client.conversation import ENDED, Conversation, not_in_time
from shopintent.client.errors import (
    DeadlineExceededError,
    FailedCall,
    ShopIntentError,
    UnavailableError,
    decode,
)
from shopintent.v1.recommendation_service_pb2 import StreamIntentsRequest, StreamIntentsResponse
from shopintent.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from shopintent.v1.user_event_pb2 import UserEvent, Visitor

FAREWELL_S = 1.0


class _Call:
    """An open call: a request in, an answer out. gRPC takes requests in a thread of its own."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: SimpleQueue[StreamIntentsRequest | None] = SimpleQueue()
        stub = RecommendationServiceStub(channel)
        self._responses: Any = stub.StreamIntents(iter(self._requests.get, None))

    def ask(self, request: StreamIntentsRequest, timeout_s: float) -> StreamIntentsResponse:
        """Returns the answer. Raises grpc.RpcError, TimeoutError and UnavailableError."""
        self._requests.put(request)
        with self._limited(timeout_s):
            answer: StreamIntentsResponse | None = next(self._responses, None)
        if answer is None:
            raise UnavailableError(ENDED)
        return answer

    def cancel(self) -> None:
        self._requests.put(None)  # Otherwise the thread would wait for ever.
        self._responses.cancel()

    def close(self) -> None:
        """Lets the server end the call."""
        self._requests.put(None)
        with suppress(grpc.RpcError, TimeoutError), self._limited(FAREWELL_S):
            next(self._responses, None)
        self._responses.cancel()

    @contextmanager
    def _limited(self, timeout_s: float) -> Iterator[None]:
        """Ends the call when time is up, with a TimeoutError."""
        is_over = threading.Event()

        def end() -> None:
            is_over.set()
            self._responses.cancel()

        timer = threading.Timer(timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except grpc.RpcError as error:
            if is_over.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()


class IntentStream:
    """One visit: `send(events)` records them and returns the visitor's intent after them.

    A call that breaks is resumed, on whichever server answers, and what was not answered is sent
    again with the same event ids, so that nothing is lost and nothing counts twice. Threads may
    share it; their events are sent one after the other.
    """

    def __init__(
        self,
        channels: StreamChannels[grpc.Channel],
        conversation: Conversation,
        timeout_s: float,
    ) -> None:
        self._channels = channels
        self._channel: grpc.Channel | None = None
        self._conversation = conversation
        self._timeout_s = timeout_s
        self._call: _Call | None = None
        self._lock = threading.Lock()

    @property
    def consistency_token(self) -> str:
        """Stands for everything recorded so far; other calls may be given it."""
        return self._conversation.token

    def send(
        self,
        events: Iterable[UserEvent] = (),
        *,
        visitor: str | Visitor | None = None,
        timeout_s: float | None = None,
    ) -> StreamIntentsResponse:
        """Records at most 100 events and returns the intent after them.

        `visitor` replaces who it is about, as at login. Reconnects as long as `timeout_s` allows,
        then raises UnavailableError or DeadlineExceededError; the events are kept and sent with the
        next call, so do not send them again. Events of a request that is refused, such as by
        InvalidRequestError, are dropped.
        """
        with self._lock:
            self._conversation.add(events, visitor)
            return self._answer(self._timeout_s if timeout_s is None else timeout_s)

    def _answer(self, timeout_s: float) -> StreamIntentsResponse:
        failure: ShopIntentError = DeadlineExceededError(not_in_time(timeout_s))
        ends_at = time.monotonic() + timeout_s
        while True:
            try:
                return self._exchange(ends_at)
            except TimeoutError as error:
                raise failure from error
            except grpc.RpcError as error:
                failure = decode(cast(FailedCall, error))
            except UnavailableError as error:
                failure = error
            finally:
                # Whatever went wrong: an answer may come that nobody waits for any more.
                if self._conversation.next(is_first=False) is not None:
                    self._break()
            wait_s = self._conversation.wait_after(failure)
            if time.monotonic() + wait_s >= ends_at:
                raise failure
            time.sleep(wait_s)

    def _exchange(self, ends_at: float) -> StreamIntentsResponse:
        """Sends everything not answered, oldest first; returns the last answer."""
        response = StreamIntentsResponse()
        while (request := self._conversation.next(is_first=self._call is None)) is not None:
            call = self._call = self._call or self._open()
            response = call.ask(request, ends_at - time.monotonic())
            self._conversation.answered(response)
        return response

    def _open(self) -> _Call:
        if self._channel is None:
            self._channel = self._channels.take()
        return _Call(self._channel)

    def _break(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def close(self) -> None:
        """Ends the call."""
        call, self._call = self._call, None
        if call is not None:
            call.close()
        if self._channel is not None:
            self._channels.give_back(self._channel)
            self._channel = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
