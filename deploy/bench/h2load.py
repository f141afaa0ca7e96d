"""Runs h2load, which costs little of the processors that it shares with what it measures.

It sends one file over and over, and reads it anew for every request. Here every process of it has
a file of its own, and a thread writes another body into each file a hundred times a second.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from deploy.bench.measured import LoadError, Report, read_log

PROCESSES = 8
"""At most."""
STREAMS = 4
"""Calls in flight of one HTTP/2 connection, at most: connections come from many clients."""
CALM_RATE = 50.0
"""Requests a second of one connection in an open loop. Above 100, h2load sends them in bursts."""
OPEN_LOOP_STREAMS = 1_000
"""So many calls wait on a connection of an open loop before h2load would hold others back."""
TURN_S = 0.01
PATIENCE_S = 60.0
"""For a process to end after its time is up."""


@dataclass(frozen=True)
class Share:
    """What one process offers."""

    connections: int
    streams: int
    """Calls in flight of each connection, at most."""
    rate: float = 0.0
    """Calls a second of each connection; 0 for as many as are answered."""


@dataclass(frozen=True, eq=False)
class Process:
    """A running h2load."""

    popen: subprocess.Popen[str]
    log: Path
    runs_s: float

    def finish(self) -> Report:
        """Waits for its end and returns what it reports. Raises LoadError when it failed."""
        try:
            output, _ = self.popen.communicate(timeout=self.runs_s + PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise LoadError(f"h2load did not end within {self.runs_s + PATIENCE_S:g} s") from None
        if self.popen.returncode != 0:
            raise LoadError(f"h2load ended with status {self.popen.returncode}:\n{output}")
        return Report(read_log(self.log), n_started(output), data_bytes(output))


def closed_loop(in_flight: int, *, http1: bool) -> list[Share]:
    """Returns the shares of so many calls in flight; HTTP/1.1 needs a connection for each."""
    n_processes = min(PROCESSES, in_flight)
    each, rest = divmod(in_flight, n_processes)
    sizes = [each + (number < rest) for number in range(n_processes)]
    return [_closed(size, 1 if http1 else STREAMS) for size in sizes]


def _closed(in_flight: int, most_streams: int) -> Share:
    streams = next(n for n in range(most_streams, 0, -1) if in_flight % n == 0)
    return Share(in_flight // streams, streams)


def open_loop(rate: float, *, http1: bool) -> list[Share]:
    """Returns the shares of so many calls a second, offered evenly.

    Over HTTP/1.1, where a connection carries one call at a time, there are twice the connections.
    """
    calm = CALM_RATE / 2 if http1 else CALM_RATE
    n_processes = min(PROCESSES, math.ceil(rate / calm))
    connections = math.ceil(rate / n_processes / calm)
    streams = 1 if http1 else OPEN_LOOP_STREAMS
    return [Share(connections, streams, rate / n_processes / connections)] * n_processes


@contextmanager
def running(
    share: Share,
    url: str,
    *,
    body: Path,
    headers: Sequence[str],
    http1: bool,
    runs_s: float,
    n_requests: int = 0,
) -> Iterator[Process]:
    """Runs h2load on its share, for so long or for so many requests where that is above 0.

    It ends with the block at the latest.
    """
    log = body.with_name(f"{body.name}.log")
    options = [
        f"--clients={share.connections}",
        f"--max-concurrent-streams={share.streams}",
        # Its own warm-up would count the bytes of the answers in it, but not the answers.
        *(
            [f"--requests={max(n_requests, share.connections)}"]
            if n_requests
            else [f"--duration={round(runs_s * 1000)}ms"]
        ),
        f"--data={body}",
        f"--log-file={log}",
        *(f"--header={header}" for header in headers),
        *([f"--rps={share.rate:.4f}"] if share.rate else []),
        *(["--h1"] if http1 else []),
    ]
    # It ends by itself when its time is up, even where this process is killed.
    popen = subprocess.Popen(
        [find(), *options, url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Process(popen, log, runs_s)
    finally:
        popen.kill()
        popen.wait()
        if popen.stdout:
            popen.stdout.close()


def find() -> str:
    """Returns the path of h2load. Raises LoadError when it is not installed."""
    if (path := shutil.which("h2load")) is None:
        raise LoadError(
            "h2load is not installed, which offers the load: apt-get install nghttp2-client "
            "(Debian, Ubuntu) or brew install nghttp2 (macOS)"
        )
    return path


@contextmanager
def taking_turns(files: Sequence[Path], bodies: Sequence[bytes]) -> Iterator[None]:
    """Keeps writing the bodies, which are of one length, into the files until the block ends.

    The files differ from one another as far as there are bodies.
    """
    for number, file in enumerate(files):
        file.write_bytes(bodies[number % len(bodies)])
    if len(bodies) == 1:
        yield
        return
    stopped = threading.Event()
    thread = threading.Thread(target=_take_turns, args=(files, bodies, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _take_turns(files: Sequence[Path], bodies: Sequence[bytes], stopped: threading.Event) -> None:
    # In place and by one write: h2load keeps the files open.
    opened = [file.open("r+b", buffering=0) for file in files]
    next_body = count(len(files))
    while not stopped.wait(TURN_S):
        for file in opened:
            file.seek(0)
            file.write(bodies[next(next_body) % len(bodies)])
    for file in opened:
        file.close()


def n_started(output: str) -> int:
    """Returns the requests that were sent, from what h2load printed."""
    return _number(r"(\d+) started", output)


def data_bytes(output: str) -> int:
    """Returns the bytes of all bodies that came back, from what h2load printed."""
    return _number(r"\((\d+)\) data", output)


def _number(pattern: str, output: str) -> int:
    if (found := re.search(pattern, output)) is None:
        raise LoadError(f"h2load printed nothing that matches {pattern!r}:\n{output}")
    return int(found.group(1))
