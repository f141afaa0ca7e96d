"""Servers that share a store of sessions, an event log and its keys, in a folder of a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.processes import Process
from deploy.demo.stack import Stack, server
from shopintent.server.event_log.upkeep import keep_up
from support.live import logged_records
from support.redis_server import redis_server
from support.stack import World

PATIENCE_S = 60.0
VISITOR_TOKEN = "deletes-visitors-in-tests"
DAY_S = 86_400


@dataclass(frozen=True)
class Shop:
    """Where servers keep what; they are started on it, and end with their block."""

    world: World
    stack: Stack
    folder: Path
    redis_url: str = ""
    """Empty where sessions are in SQLite."""

    @property
    def log(self) -> Path:
        """The folder of the event log."""
        return self.folder / "event-log"

    @property
    def keys(self) -> Path:
        """The file of the keys of pseudonyms."""
        return self.folder / "pseudonym-keys.json"

    @property
    def sessions(self) -> Path:
        """The file of the sessions, where they are in one."""
        return self.folder / "state" / "sessions.sqlite"

    @contextmanager
    def gateway(self, name: str = "") -> Iterator[tuple[Process, str]]:
        """Runs a server; yields it and its address. Those that run at once need different names."""
        token_file = self.folder / "visitor-token"
        token_file.write_text(VISITOR_TOKEN)
        options = [
            # Tests share their machine; what comes late is no less true.
            "--answer-timeout-s=10",
            f"--sessions={'redis' if self.redis_url else 'sqlite'}",
            f"--state-path={self.folder / f'state{name}'}",
            f"--index-path={self.folder / f'index{name}'}",
            f"--event-log={self.log}",
            f"--pseudonym-keys={self.keys}",
            f"--visitor-token-file={token_file}",
        ]
        with server(
            self.world.releases,
            self.stack.triton_address,
            self.folder / f"logs{name}",
            server_options=options,
            secrets={"SHOPINTENT_REDIS_URL": self.redis_url},
        ) as started:
            yield started

    async def wait_for_log(self, event_ids: set[str]) -> None:
        """Returns when all events are in the log."""
        deadline = time.monotonic() + PATIENCE_S
        while left := event_ids - {each.event_id for each in logged_records(self.log)}:
            assert time.monotonic() < deadline, f"{len(left)} of {len(event_ids)} are not logged"
            await asyncio.sleep(0.2)

    def finish_day(self) -> None:
        """Makes Parquet of what was logged so far, as if its day were over."""
        keep_up(self.log, kept_days=90, now=time.time() + 2 * DAY_S, on_progress=lambda *_: None)
        assert list(self.log.rglob("*.parquet"))


@contextmanager
def open_shop(world: World, stack: Stack, folder: Path, store: str) -> Iterator[Shop]:
    """Opens an empty shop that keeps sessions in "sqlite" or "redis"."""
    if store == "sqlite":
        yield Shop(world, stack, folder)
        return
    # Compressed, its files could not be searched byte by byte.
    settings = ("--appendfsync", "always", "--rdbcompression", "no")
    with redis_server(folder / "redis", *settings) as redis:
        yield Shop(world, stack, folder, f"{redis.url}/0")
