"""How long a call stands in line before the server hears of it, found out by asking itself.

gRPC accepts calls one by one on the event loop, and has no way to tell how many it has not accepted
yet, or since when. So a call of our own is put in the same line now and then,
while there is work.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from shopintent.server.interceptors.admission import LOOKOUT, Admission

EVERY_S = 0.02
LONGEST_S = 5.0


class Lookout:
    """Calls the server through a socket in a folder that only this user may enter."""

    def __init__(self, server: grpc.aio.Server, admission: Admission) -> None:
        self._server = server
        self._admission = admission
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def _address(self) -> str:
        assert self._folder is not None
        return f"unix:{Path(self._folder.name) / 'lookout'}"

    def listen(self) -> None:
        """Opens the socket; the server must not have started yet."""
        self._folder = tempfile.TemporaryDirectory(prefix="shopintent-")
        self._server.add_insecure_port(self._address)

    async def run(self) -> None:
        """Tells the admission how long the line is, for as long as it runs."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            while True:
                await asyncio.sleep(EVERY_S)
                if self._admission.is_busy:
                    self._admission.stood_in_line(await self._line_s(channel))

    async def _line_s(self, channel: grpc.aio.Channel) -> float:
        call: Any = channel.unary_unary(LOOKOUT)
        started = time.monotonic()
        with suppress(grpc.aio.AioRpcError):  # It has been heard then too, or was not for so long.
            await call(b"", timeout=LONGEST_S, metadata=(self._admission.mark,))
        return time.monotonic() - started

    def close(self) -> None:
        """Removes the folder."""
        if self._folder is not None:
            self._folder.cleanup()
