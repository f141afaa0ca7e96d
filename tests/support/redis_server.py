"""A real redis-server for tests, alone or as a cluster; it ends with the test process.

Tests that ask for one are skipped where Debian's package is missing.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

START_TIMEOUT_S = 20.0
END_WITH_PARENT = """
import os, sys
from shopintent.server.parent import end_with
end_with(int(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""
DATABASES = 10_000
"""So that every store of a test has one of its own."""
MISSING = "redis-server is not installed: apt-get install redis-server"


def skip_unless_installed() -> None:
    """Skips the test where there is no redis-server."""
    if shutil.which("redis-server") is None:
        pytest.skip(MISSING)


@dataclass
class RedisServer:
    """A redis-server on a free port of this machine, with its files in a folder."""

    folder: Path
    settings: Sequence[str] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """What to connect to, without a database."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self, database: int = 0) -> redis.Redis:
        """Returns a client that a test may look with; close it."""
        return redis.Redis(port=self.port, db=database, socket_timeout=START_TIMEOUT_S)

    def start(self) -> None:
        """Starts it, again on the same port, and returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        settings = [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--appendonly", "yes", "--save", "", "--logfile", str(self.folder / "log")),
            *self.settings,
        ]
        end_with_us = [sys.executable, "-c", END_WITH_PARENT, str(os.getpid())]
        self.process = subprocess.Popen([*end_with_us, "redis-server", *settings])
        ends_at = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.AuthenticationError:  # It answers, and wants a password.
                return
            except redis.RedisError:
                if self.process.poll() is not None or time.monotonic() > ends_at:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """Ends it without a word, as kill -9 does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def free_port() -> int:
    """Returns a port nobody listens on, with a cluster's second port free too."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port + 10_000 > 65_535:
                continue
            with socket.socket() as other:
                try:
                    other.bind(("127.0.0.1", port + 10_000))
                except OSError:
                    continue
            return port


@contextmanager
def redis_server(folder: Path, *settings: str) -> Iterator[RedisServer]:
    """Runs a redis-server; `settings` such as "--appendfsync", "always" win over its own."""
    skip_unless_installed()
    server = RedisServer(folder, settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@functools.cache
def shared_redis() -> RedisServer:
    """Returns a redis-server that all tests of this process share; each uses other databases."""
    skip_unless_installed()
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(folder, ["--appendfsync", "everysec", "--databases", str(DATABASES)])
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.kill)
    server.start()
    return server


def emptied_redis() -> Iterator[str]:
    """Empties the shared Redis, and returns the URLs of its databases."""
    server = shared_redis()
    with server.client() as client:
        client.flushall()
    return (f"{server.url}/{number}" for number in range(DATABASES))


CLUSTER_SETTINGS = ("--cluster-enabled", "yes", "--appendfsync", "always")
"""Flushed once a second, Redis answers before it writes while the disk is busy, and may be killed
in between."""


@contextmanager
def redis_cluster(folder: Path, n_servers: int = 3) -> Iterator[list[RedisServer]]:
    """Runs a cluster of redis-servers without replicas."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(redis_server(folder / str(number), *CLUSTER_SETTINGS))
            for number in range(n_servers)
        ]
        addresses = [f"127.0.0.1:{each.port}" for each in servers]
        command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
        for server in servers:
            _wait_for_cluster(server)
        yield servers


def _wait_for_cluster(server: RedisServer) -> None:
    ends_at = time.monotonic() + START_TIMEOUT_S
    with server.client() as client:
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            assert time.monotonic() < ends_at, "the cluster did not form"
            time.sleep(0.05)
