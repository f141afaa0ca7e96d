"""The servers of each store of sessions: one to be loaded, and two that share a store."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from deploy.bench.events.options import MEMORY, SQLITE
from deploy.bench.progress import Say
from deploy.demo.processes import ProcessError, running
from deploy.demo.stack import server
from shopintent.artifacts import ReleasesRoot
from shopintent.v1.recommendation_service_pb2 import PredictIntentRequest
from shopintent.v1.recommendation_service_pb2_grpc import RecommendationServiceStub

CONNECTIONS = 40
"""Opened at most until two of them lead to different workers."""
LOGGED_S = 5.0
"""Patience for the log to tell which worker a connection leads to."""
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True)
class Gateways:
    """The servers of one store."""

    store: str
    address: str
    """Of the one that is loaded."""
    sharing: tuple[str, str]
    """Of those that share a store; the same where they are workers of one server, or one alone."""
    workers_log: Path | None = None
    """Of the server whose workers share a store."""

    @property
    def what(self) -> str:
        """Returns in words what shares the store."""
        if self.workers_log is not None:
            return "two workers"
        return "one server" if self.sharing[0] == self.sharing[1] else "two servers"


@contextmanager
def serving_each(
    stores: Sequence[str],
    releases: ReleasesRoot,
    triton_address: str,
    triton_http_address: str,
    folder: Path,
    options: Sequence[str],
    say: Say,
) -> Iterator[dict[str, Gateways]]:
    """Runs the servers of each store, with state of their own in the folder, empty at first."""
    with ExitStack() as running_now:

        def start(name: str, *more: str, redis_url: str = "") -> str:
            say(f"starting a server: {name}")
            own = _fresh(folder / name)
            kept = [f"--state-path={own / 'state'}", f"--index-path={own / 'index'}"]
            _, address = running_now.enter_context(
                server(
                    releases,
                    triton_address,
                    own,
                    server_options=[*kept, *more, *options],
                    triton_http_address=triton_http_address,
                    secrets={"SHOPINTENT_REDIS_URL": redis_url},
                )
            )
            return address

        found = {}
        for store in stores:
            if store == SQLITE:
                loaded, shared = start(SQLITE), start("sqlite-of-two-workers", "--workers=2")
                log = folder / "sqlite-of-two-workers" / "server.log"
                found[store] = Gateways(store, loaded, (shared, shared), log)
            elif store == MEMORY:
                loaded = start(MEMORY, "--sessions=memory")
                found[store] = Gateways(store, loaded, (loaded, loaded))
            else:
                url = running_now.enter_context(redis(folder / "redis-server"))
                both = (
                    "--sessions=redis",
                    f"--event-log={_fresh(folder / 'redis-event-log')}",
                    f"--pseudonym-keys={_fresh(folder / 'redis-keys') / 'pseudonym-keys.json'}",
                )
                loaded, other = (
                    start(name, *both, redis_url=url) for name in ("redis-a", "redis-b")
                )
                found[store] = Gateways(store, loaded, (loaded, other))
        yield found


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Runs a Redis that keeps what it acknowledged; yields its URL."""
    _fresh(folder).mkdir(parents=True)
    port = _free_port()
    command = [
        *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
    ]
    with running("redis-server", command, folder / "redis.log") as process:
        process.wait_until(lambda: _answers(port))
        yield f"redis://127.0.0.1:{port}/0"


def _fresh(folder: Path) -> Path:
    """Returns the folder, which does not exist: what earlier runs left is no part of this one."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


@asynccontextmanager
async def connected(gateways: Gateways) -> AsyncIterator[tuple[grpc.aio.Channel, grpc.aio.Channel]]:
    """Connects to the two that share a store; where it is one server alone, twice to that."""
    async with AsyncExitStack() as opened:

        async def open_channel(address: str) -> grpc.aio.Channel:
            channel = grpc.aio.insecure_channel(address, options=OWN_CONNECTION)
            return await opened.enter_async_context(channel)

        first = await open_channel(gateways.sharing[0])
        second = await open_channel(gateways.sharing[1])
        if gateways.workers_log is not None:
            worker = await _worker(first, gateways.workers_log)
            for _ in range(CONNECTIONS):
                if await _worker(second, gateways.workers_log) != worker:
                    break
                second = await open_channel(gateways.sharing[1])
            else:
                raise ProcessError("the kernel leads every connection to one worker; try again")
        yield first, second


async def _worker(channel: grpc.aio.Channel, log: Path) -> int:
    """Returns the number of the worker that a connection leads to."""
    request_id = str(uuid.uuid4())
    ask = RecommendationServiceStub(channel).PredictIntent
    named = (("x-request-id", request_id),)
    await ask(PredictIntentRequest(), metadata=named, timeout=LOGGED_S)
    async with asyncio.timeout(LOGGED_S):
        while (line := _line_with(request_id, log)) is None:  # noqa: ASYNC110 - a file tells nobody.
            await asyncio.sleep(0.02)
    return int(json.loads(line)["worker"])


def _line_with(text: str, log: Path) -> str | None:
    lines = log.read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if text in line), None)
