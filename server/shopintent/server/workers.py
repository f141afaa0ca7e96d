"""`serve --workers N`: N server processes on one port, and the one that keeps them running.

The kernel spreads connections over the workers (SO_REUSEPORT). They are new programs and no forks:
a process with gRPC channels must not be forked, and this one loads no gRPC at all. It holds the
port, so that 0 takes one for all, and the memory in which the workers count.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shopintent.server.config import Config, ConfigError, check_listen
from shopintent.server.metrics import BLOCK_BYTES, Block, Metrics
from shopintent.server.metrics_page import serve_metrics
from shopintent.server.parent import end_with
from shopintent.server.ready_file import write_ready_file

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
STEADY_S = 60.0
"""A worker that ran as long starts anew at once; of others each restart waits twice as long."""
CLOSING_S = 10.0
"""What a worker may take, after its calls got their grace, to write its state to the disk."""


@dataclass(frozen=True)
class Assignment:
    """What the supervisor tells a worker, as JSON on its command line."""

    number: int
    supervisor: int
    """Its process id."""
    block: int
    """Descriptor of the memory to count in."""

    @classmethod
    def parse(cls, text: str) -> Assignment:
        """Reads it, and has this process end with the supervisor from now on."""
        assignment = cls(**json.loads(text))
        end_with(assignment.supervisor)
        return assignment

    def metrics(self) -> Metrics:
        """Returns what counts for the supervisor to see."""
        return Metrics(Block(self.block))


def tell_listening(address: str, release_id: str) -> None:
    """Tells the supervisor that this worker listens."""
    print(json.dumps({"address": address, "release_id": release_id}), flush=True)


def supervise(config: Config, arguments: Sequence[str], ready_file: Path | None) -> int:
    """Runs the workers until SIGTERM or SIGINT, then drains all; returns the exit code.

    `arguments` are those of this process. When a worker ends before all have once listened, the
    others are ended too and its exit code is returned. Raises ConfigError.
    """
    check_listen(config)
    with reserve_port(config) as reserved:
        host = config.listen.rpartition(":")[0]
        address = f"{host}:{reserved.getsockname()[1]}"
        return asyncio.run(_Supervisor(config, arguments, address, ready_file).run())


@dataclass
class _Supervisor:
    config: Config
    arguments: Sequence[str]
    address: str
    ready_file: Path | None
    processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    """Those that run, by the worker's number."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    failed: int | None = None
    """The exit code of a worker that could not start."""

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        blocks = [_memory() for _ in range(self.config.workers)]
        metrics_address = ""
        if self.config.metrics_listen:
            counted = [Block(each) for each in blocks]
            metrics_address = serve_metrics(self.config.metrics_listen, counted)
        first: list[asyncio.Future[str]] = [loop.create_future() for _ in blocks]
        keeping = [
            asyncio.create_task(self._keep(number, block, first[number]))
            for number, block in enumerate(blocks)
        ]
        ready = asyncio.create_task(self._tell_when_ready(first, metrics_address))
        for task in (ready, *keeping):
            task.add_done_callback(self._stop_if_failed)
        await self.stopping.wait()
        fields = {"grace_s": self.config.grace_s}
        logger.info("draining all workers", extra={"fields": fields})
        ready.cancel()
        await self._drain()
        with suppress(asyncio.CancelledError):
            await ready
        await asyncio.gather(*keeping)
        return self.failed or 0

    def _stop_if_failed(self, task: asyncio.Task[None]) -> None:
        """Ends everything when a task does for a reason that nobody thought of."""
        if not task.cancelled() and task.exception() is not None:
            self.stopping.set()

    async def _tell_when_ready(
        self, first: Sequence[asyncio.Future[str]], metrics_address: str
    ) -> None:
        release_ids = await asyncio.gather(*first)
        fields = {"address": self.address, "workers": len(first), "metrics": metrics_address}
        logger.info("all workers listen", extra={"fields": fields})
        if self.ready_file is not None:
            write_ready_file(self.ready_file, self.address, release_ids[0], metrics_address)

    async def _keep(self, number: int, block: int, first: asyncio.Future[str]) -> None:
        """Runs a worker, again and again, until all are to stop."""
        restarts_in_a_row = 0
        while not self.stopping.is_set():
            started = time.monotonic()
            status = await self._run_worker(number, block, first)
            if self.stopping.is_set():
                return
            if not first.done():
                self.failed = status if status > 0 else 1
                self.stopping.set()
                return
            if time.monotonic() - started > STEADY_S:
                restarts_in_a_row = 0
            delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2**restarts_in_a_row)
            restarts_in_a_row += 1
            fields = {"worker": number, "why": _reason(status), "restart_in_s": delay_s}
            logger.error("a worker ended", extra={"fields": fields})
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), delay_s)

    async def _run_worker(self, number: int, block: int, first: asyncio.Future[str]) -> int:
        """Runs a worker once; returns its exit status, negative for a signal."""
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(self.arguments, self.address, Assignment(number, os.getpid(), block)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=[block],
            )
        except OSError as error:  # The machine may have room for it later.
            fields = {"worker": number, "why": str(error)}
            logger.error("a worker could not be started", extra={"fields": fields})
            return 1
        self.processes[number] = process
        if self.stopping.is_set():  # It was decided while this one was being started.
            _signal(process, signal.SIGTERM)
        assert process.stdout is not None
        async for line in process.stdout:
            if not first.done() and (release_id := _listening(line)) is not None:
                first.set_result(release_id)
        status = await process.wait()
        del self.processes[number]
        return status

    async def _drain(self) -> None:
        for process in self.processes.values():
            _signal(process, signal.SIGTERM)
        ends_at = time.monotonic() + self.config.grace_s + CLOSING_S
        while self.processes and time.monotonic() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for number, process in self.processes.items():
            fields = {"worker": number, "pid": process.pid}
            logger.error("a worker did not stop in time and is killed", extra={"fields": fields})
            _signal(process, signal.SIGKILL)


def reserve_port(config: Config) -> socket.socket:
    """Takes the port for the workers without listening; raises ConfigError when others have it."""
    host, _, port = config.listen.rpartition(":")
    try:
        family, *_, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if not config.reuse_port:
            # Only a port that nobody has can be taken without sharing it.
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        reserved = socket.socket(family)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"SHOPINTENT_LISTEN: cannot listen on {config.listen}; is the port taken? ({error})"
        ) from error
    return reserved


def _command(arguments: Sequence[str], address: str, assignment: Assignment) -> list[str]:
    """Returns the command of a worker: this process's own, with the last word on what differs."""
    told = ["--listen", address, "--reuse-port", "true", "--workers", "1", "--metrics-listen", ""]
    worker = ["--worker", json.dumps(asdict(assignment))]
    # -P: what lies in the current folder must not pass for a part of the server.
    return [sys.executable, "-P", "-m", "shopintent.server", *arguments, *told, *worker]


def _memory() -> int:
    """Returns the descriptor of memory to count in, which goes with the last who holds it."""
    block = os.memfd_create("shopintent-metrics")
    os.truncate(block, BLOCK_BYTES)
    return block


def _listening(line: bytes) -> str | None:
    """Returns the release's id when the line is what `tell_listening` printed."""
    try:
        told: Any = json.loads(line)
        return str(told["release_id"])
    except (ValueError, TypeError, KeyError):
        return None


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
