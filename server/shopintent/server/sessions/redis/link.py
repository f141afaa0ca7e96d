"""The way to Redis: calls that wait at a time go out together, and none waits for ever.

A group of calls costs little more than one, so throughput grows with load, over few connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import redis.asyncio as redis_client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from shopintent.server.errors import Overloaded, StateUnavailable
from shopintent.server.sessions.redis.scripts import read_scripts

MAX_GROUPS = 4
"""Groups under way at once, each over a connection."""
GROUP_SIZE = 64
MAX_WAITING = 4_000
CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 5.0
"""After which a connection is given up; nothing waits for longer."""
REPLICA_TIMEOUT_S = 1.0
Refused = ResponseError
"""How a server answers that does not do a command."""
LOSSES = (ConnectionError, RedisTimeoutError, ReadOnlyError)
"""What comes of a Redis that is away, or that is a replica since another took over."""
FAILURES = (RedisError, RedisClusterException, OSError)

Value = bytes | str | int | float


class Server(Protocol):
    """One Redis process."""

    async def execute_command(self, *args: Any) -> Any:
        """Runs a command there."""


@dataclass(frozen=True, eq=False)
class _Call:
    command: tuple[Value, ...]
    answer: asyncio.Future[Any]
    replicated: bool


class RedisLink:
    """Runs commands and scripts; make it with `open`. Callers limit how long they wait, `in_time`.

    With `replicas` above 0 what `replicated` calls wrote has reached so many replicas.
    """

    def __init__(self, client: Any, *, is_cluster: bool, replicas: int = 0) -> None:
        self._client = client
        self._is_cluster = is_cluster
        self._replicas = replicas
        self._scripts = read_scripts()
        self._waiting: deque[_Call] = deque()
        self._groups: set[asyncio.Task[None]] = set()
        self._sending = 0
        """How many of them look for more calls."""
        self.losses = 0
        """How often Redis could not be reached: it may be another one since."""

    @classmethod
    def open(
        cls, url: str, *, is_cluster: bool = False, password: str | None = None, replicas: int = 0
    ) -> RedisLink:
        """Makes the link; it connects when first used. Raises ValueError for a bad URL."""
        options: dict[str, Any] = {
            # A call that was cut off may have been done: whether to repeat it is the caller's to
            # say. Connections are made anew all the same.
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": ANSWER_TIMEOUT_S,
            # What Redis 6 speaks too, and the fastest here.
            "protocol": 2,
            "max_connections": 2 * MAX_GROUPS,  # To each server.
        }
        if password:
            options["password"] = password
        if is_cluster:
            return cls(redis_client.RedisCluster.from_url(url, **options), is_cluster=True)
        client = redis_client.Redis.from_url(url, **options)
        return cls(client, is_cluster=False, replicas=replicas)

    async def run(
        self,
        name: str,
        keys: Sequence[Value],
        args: Sequence[Value],
        *,
        replicated: bool = False,
    ) -> Any:
        """Runs a script in one round trip; two when Redis does not have it yet.

        Raises StateUnavailable, and Overloaded when nothing was tried.
        """
        script = self._scripts[name]
        rest = (len(keys), *keys, *args)
        try:
            return await self._submit(("EVALSHA", script.sha1, *rest), replicated)
        except NoScriptError:
            return await self._submit(("EVAL", script.text, *rest), replicated)

    async def command(self, *command: Value) -> Any:
        """Runs a command on the server that holds its key. Raises like `run`."""
        return await self._submit(command)

    async def on_every_server(
        self, work: Callable[[Server], Awaitable[None]], *, replicas: bool = False
    ) -> None:
        """Does work with each server in turn, replicas of a cluster last. Raises StateUnavailable.

        It is to take care of its own timeouts.
        """
        try:
            for server in await self._servers(replicas):
                await work(server)
        except FAILURES as error:
            self.losses += 1
            raise unavailable(error) from error

    async def close(self) -> None:
        """Waits for what is under way and closes the connections."""
        await asyncio.gather(*self._groups)
        await self._client.aclose()

    async def _servers(self, replicas: bool) -> Sequence[Server]:
        if not self._is_cluster:
            return [self._client]
        await self._client.initialize()
        primaries: list[Server] = self._client.get_primaries()
        return [*primaries, *self._client.get_replicas()] if replicas else primaries

    async def _submit(self, command: tuple[Value, ...], replicated: bool = False) -> Any:
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded()
        # Here, so that a text that cannot be encoded fails nobody else's call.
        name, *rest = command
        encoded = (each.encode() if isinstance(each, str) else each for each in rest)
        call = _Call((name, *encoded), asyncio.get_running_loop().create_future(), replicated)
        self._waiting.append(call)
        if self._sending < MAX_GROUPS:
            self._sending += 1
            group = asyncio.create_task(self._send_groups())
            self._groups.add(group)
            group.add_done_callback(self._groups.discard)
        try:
            return await call.answer
        except NoScriptError:
            raise
        except FAILURES as error:
            raise unavailable(error) from error

    async def _send_groups(self) -> None:
        while group := self._next_group():
            answers: Sequence[Any]
            try:
                answers = await self._send(group)
            except Exception as error:
                answers = [error] * len(group)
            if any(isinstance(each, LOSSES) for each in answers):
                await self._lose()
            for call, answer in zip(group, answers, strict=True):
                _hand_out(call, answer)
        # Before anybody else can add a call that nobody would send.
        self._sending -= 1

    async def _lose(self) -> None:
        """Leaves the connections: what the address stands for may be another server by now."""
        self.losses += 1
        if not self._is_cluster:
            await self._client.connection_pool.disconnect(inuse_connections=False)

    def _next_group(self) -> list[_Call]:
        group: list[_Call] = []
        while self._waiting and len(group) < GROUP_SIZE:
            call = self._waiting.popleft()
            if not call.answer.done():  # Else its caller went away.
                group.append(call)
        return group

    async def _send(self, group: Sequence[_Call]) -> Sequence[Any]:
        if self._is_cluster:
            # Once and not by every call: it is not made for that.
            await self._client.initialize()
        async with self._client.pipeline(transaction=False) as pipeline:
            for call in group:
                pipeline.execute_command(*call.command)
            if not self._replicas or not any(call.replicated for call in group):
                answers: Sequence[Any] = await pipeline.execute(raise_on_error=False)
                return answers
            pipeline.execute_command("WAIT", self._replicas, round(1000 * REPLICA_TIMEOUT_S))
            *answers, reached = await pipeline.execute(raise_on_error=False)
        if isinstance(reached, int) and reached >= self._replicas:
            return answers
        why = RedisError(f"{reached} of {self._replicas} replicas have what was written")
        return [
            why if call.replicated and not isinstance(answer, Exception) else answer
            for call, answer in zip(group, answers, strict=True)
        ]


@asynccontextmanager
async def in_time(timeout_s: float) -> AsyncIterator[None]:
    """Ends what is done in it after so many seconds with StateUnavailable."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise unavailable("no answer in time") from error


def unavailable(why: object) -> StateUnavailable:
    """Returns the error of a Redis that does not do what it should."""
    return StateUnavailable("sessions", f"Redis: {why}")


def _hand_out(call: _Call, answer: object) -> None:
    if call.answer.done():
        return
    if isinstance(answer, Exception):
        call.answer.set_exception(answer)
    else:
        call.answer.set_result(answer)
