"""One HTTP/1.1 connection, which carries one request after the other; httptools reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools


@dataclass(frozen=True)
class HttpResponse:
    """A whole response of a Triton."""

    status: int
    body: bytes
    header_length: int
    """Of the JSON that the body begins with; all of it where the server names none."""


class ConnectionLost(OSError):
    """The connection ended before the response did."""

    def __init__(self, why: str, *, answering: bool) -> None:
        super().__init__(why)
        self.answering = answering
        """Whether the server may have read the request."""


class HttpConnection(asyncio.Protocol):
    """Tells `free` when it may be asked again, and `lost` when it never may."""

    def __init__(
        self,
        free: Callable[[HttpConnection], None],
        lost: Callable[[HttpConnection], None],
    ) -> None:
        self._free = free
        self._lost = lost
        self._transport: asyncio.WriteTransport | None = None
        self._response: asyncio.Future[HttpResponse] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._why = "the connection ended"
        self._busy = False
        self._answering = False
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._header_length: int | None = None

    async def ask(self, request: bytes, *, timeout_s: float) -> HttpResponse:
        """Returns the response to a request; the one before must have ended.

        Raises ConnectionLost, also after `timeout_s` seconds. Who is cancelled meanwhile leaves the
        connection busy until the response has come.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionLost(self._why, answering=False)
        loop = asyncio.get_running_loop()
        self._response = loop.create_future()
        self._busy = True
        self._timer = loop.call_later(timeout_s, self._give_up, timeout_s)
        self._transport.write(request)
        return await self._response

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is called by asyncio."""
        # uvloop's transports are not of asyncio's classes.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Is called by asyncio."""
        self._answering = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"the response cannot be read: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        """Is called by asyncio, once."""
        self._transport = None
        self._stop_timer()
        self._lost(self)
        if self._response is not None and not self._response.done():
            why = str(error or self._why)
            self._response.set_exception(ConnectionLost(why, answering=self._answering))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Is called by httptools, as are those below."""
        if name.lower() == b"inference-header-content-length":
            self._header_length = int(value)

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Gives the response to whoever waits for it, and the connection back."""
        if not self._busy:
            self._end("a response came that nobody asked for")
            return
        body = b"".join(self._body)
        header_length = len(body) if self._header_length is None else self._header_length
        response = HttpResponse(self._parser.get_status_code(), body, header_length)
        keeps = self._parser.should_keep_alive()
        self._stop_timer()
        self._begin()
        if self._response is not None and not self._response.done():
            self._response.set_result(response)
        if keeps:
            self._free(self)
        else:
            self.close()

    def _begin(self) -> None:
        """Makes ready for the next response."""
        self._body = []
        self._header_length = None
        self._busy = self._answering = False

    def _give_up(self, after_s: float) -> None:
        self._answering = True
        self._end(f"no answer within {after_s:.3f} s")

    def _end(self, why: str) -> None:
        self._why = why
        if self._transport is not None:
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
