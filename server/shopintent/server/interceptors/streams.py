"""Calls that answer one request after the other, for as long as a visit takes.

Such a call is idle most of the time, so it is none of those that the server is busy with. Each of
its requests is one, from when it is read until its answer is made, and the next is read when that
answer is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Self, TypeAlias

import grpc

from shopintent.server.errors import Overloaded, StreamEnded
from shopintent.server.interceptors.admission import Admission
from shopintent.server.interceptors.errors import parsed
from shopintent.server.interceptors.handlers import Call, Context
from shopintent.server.interceptors.request_id import current_request_id, set_request_id
from shopintent.server.metrics import Metrics

StreamCall: TypeAlias = Callable[[AsyncIterator[Any], Context], AsyncGenerator[Any, None]]
"""What answers a stream: yields one answer to each request before it asks for the next."""

IDLE_S = 30 * 60.0
"""Seconds that a client may leave a stream alone, neither sending nor reading."""


class Streams:
    """The open streams of a server, at most `most`; each ends after `idle_s` idle seconds."""

    def __init__(self, *, most: int, idle_s: float = IDLE_S) -> None:
        self.n_open = 0
        self._most = most
        self._idle_s = idle_s
        self._reading: set[asyncio.Timeout] = set()
        self._draining = False

    def drain(self) -> None:
        """Ends every stream: one between two requests now, others when they have answered."""
        self._draining = True
        for waiting in self._reading:
            waiting.reschedule(0.0)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Counts a stream while it is open. Raises Overloaded when there are too many."""
        if self.n_open >= self._most:
            raise Overloaded()
        self.n_open += 1
        try:
            yield
        finally:
            self.n_open -= 1

    async def read(self, context: Context) -> Any:
        """Returns the bytes of the next request, or grpc.aio.EOF. Raises StreamEnded."""
        self._end_if_draining()
        try:
            async with asyncio.timeout(self._idle_s) as waiting:
                self._reading.add(waiting)
                try:
                    return await context.read()
                finally:
                    self._reading.discard(waiting)
        except TimeoutError:
            self._end_if_draining()
            raise StreamEnded(f"no request came for {self._idle_s:g} seconds") from None

    async def write(self, answer: Any, context: Context) -> None:
        """Sends an answer, once the client has room for it. Raises StreamEnded."""
        try:
            async with asyncio.timeout(self._idle_s):
                await context.write(answer)
        except grpc.aio.InternalError as error:
            # What gRPC says when the client is gone; it cancels the call, but may be later with it.
            raise asyncio.CancelledError from error
        except TimeoutError:
            raise StreamEnded(f"no answer was read for {self._idle_s:g} seconds") from None

    def _end_if_draining(self) -> None:
        if self._draining:
            raise StreamEnded("the server shuts down")


class _Requests:
    """The requests of one stream; one is in work from when it is taken until `answered`."""

    def __init__(
        self,
        context: Context,
        parse: Callable[[bytes], Any],
        streams: Streams,
        admission: Admission,
        metrics: Metrics,
    ) -> None:
        self._context = context
        self._parse = parse
        self._streams = streams
        self._admission = admission
        self._metrics = metrics
        self._stream_id = current_request_id()
        self._n_read = 0
        self._entered_at: float | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Returns the next request, admitted; it has an id of its own, "<id of the stream>.1"."""
        message = await self._streams.read(self._context)
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        self._n_read += 1
        set_request_id(f"{self._stream_id}.{self._n_read}")
        if self._admission.is_full:
            self._admission.refused()
            raise Overloaded()
        request = parsed(message, self._parse)
        self._entered_at = self._admission.enter()
        return request

    def answered(self) -> None:
        """Counts the request out, if one is in work."""
        if self._entered_at is not None:
            self._admission.leave(self._entered_at, None)
            self._metrics.stream_request.observe(time.monotonic() - self._entered_at)
            self._entered_at = None


def streamed(
    call: StreamCall,
    parse: Callable[[bytes], Any],
    streams: Streams,
    admission: Admission,
    metrics: Metrics,
) -> Call:
    """Reads, answers and writes in turn, so that a client that does not read is not read from."""

    async def answer(_: Any, context: Context) -> None:
        with streams.opened():
            requests = _Requests(context, parse, streams, admission, metrics)
            try:
                async with aclosing(call(requests, context)) as responses:
                    async for response in responses:
                        requests.answered()
                        await streams.write(response, context)
            finally:
                requests.answered()

    return answer
