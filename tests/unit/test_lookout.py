"""The server finds out how long calls stand in line by asking itself, while there is work."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from shopintent.server.interceptors import Calls
from shopintent.server.interceptors.admission import BUSY, LOOKOUT, Admission
from shopintent.server.interceptors.streams import Streams
from shopintent.server.lookout import Lookout
from shopintent.server.metrics import Metrics
from support.server import eventually


class Told(Admission):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(most=100, timeout_s=1.0)
        self.line_s: list[float] = []

    def stood_in_line(self, line_s: float) -> None:
        self.line_s.append(line_s)

    def be_busy(self) -> None:
        for _ in range(BUSY):
            self.enter()


@pytest.fixture
def admission() -> Told:
    return Told()


@pytest.fixture
async def lookout(admission: Told) -> AsyncIterator[Lookout]:
    server = grpc.aio.server()
    Calls(Metrics(), admission, Streams(most=1)).add_to(server)
    lookout = Lookout(server, admission)
    lookout.listen()
    await server.start()
    running = asyncio.create_task(lookout.run())
    yield lookout
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    lookout.close()
    await server.stop(0)


async def test_it_asks_only_while_there_is_work(lookout: Lookout, admission: Told) -> None:
    await asyncio.sleep(0.1)
    assert admission.line_s == []
    admission.be_busy()

    async def told() -> bool:
        return len(admission.line_s) >= 2

    await eventually(told)


async def test_nobody_else_may_ask(lookout: Lookout, admission: Told) -> None:
    async with grpc.aio.insecure_channel(lookout._address) as channel:
        call: Any = channel.unary_unary(LOOKOUT)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=5, metadata=((admission.mark[0], "guessed"),))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_it_notices_a_loop_that_has_little_time_for_calls(
    lookout: Lookout, admission: Told
) -> None:
    async def work() -> None:
        while True:
            time.sleep(0.05)  # noqa: ASYNC251 - that is what the test is about.
            await asyncio.sleep(0)

    async def told() -> bool:
        return max(admission.line_s, default=0.0) > 0.05

    admission.be_busy()
    working = asyncio.create_task(work())
    await eventually(told)
    working.cancel()


def test_only_this_user_may_use_its_socket_and_nothing_is_left_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, admission: Told
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ports: list[str] = []
    lookout = Lookout(SimpleNamespace(add_insecure_port=ports.append), admission)  # type: ignore[arg-type]
    lookout.close()
    lookout.listen()
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert ports == [f"unix:{folder}/lookout"]
    lookout.close()
    assert not folder.exists()
