"""Records that wait in Redis for the event log, read without taking them away.

Servers move them to the log's folder about once a second, so this is the whole log only where
nothing does that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from shopintent.artifacts.event_log import LogRecord
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.data.read import PrepareError

STREAMS = "shopintent:{p*}:log"
"""The names of the streams, one of each partition; its partition is a hash beside it."""
PARTITION = "partition"
AT_ONCE = 10_000


def fetch(url: str, folder: Path, progress: Progress) -> list[Path]:
    """Writes the records of every stream to a file of lines; returns the files, in order.

    Raises PrepareError for a Redis that does not answer or has no such streams.
    """
    folder.mkdir(parents=True)
    try:
        with redis.Redis.from_url(url) as server:
            names = sorted(name.decode() for name in server.scan_iter(STREAMS))
            return [
                _fetch_stream(server, name, folder, done, len(names), progress)
                for done, name in enumerate(names, 1)
            ]
    except (redis.RedisError, ValueError) as error:
        raise PrepareError(f"{_without_password(url)}: cannot be read ({error}).") from error


def _fetch_stream(
    server: Any, name: str, folder: Path, done: int, total: int, progress: Progress
) -> Path:
    prefix = name.removesuffix("log")
    partition = prefix.partition("{")[2].partition("}")[0]
    epoch = (server.hget(prefix + PARTITION, "epoch") or b"").decode()
    path = folder / f"{partition}.jsonl"
    with path.open("wb") as file:
        for number, line in _entries(server, name):
            fields = json.loads(line)
            source = f"redis-{partition}-{epoch}"
            file.write(
                LogRecord.from_fields({**fields, "source": source, "sequence": number}).to_line()
            )
    progress("read Redis", done, total)
    return path


def _entries(server: Any, name: str) -> Iterator[tuple[int, bytes]]:
    """Yields the number and the record of every entry."""
    start = "-"
    while entries := server.xrange(name, min=start, count=AT_ONCE):
        for entry_id, fields in entries:
            yield int(entry_id.partition(b"-")[0]), fields[b"r"]
        start = f"({entries[-1][0].decode()}"


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
