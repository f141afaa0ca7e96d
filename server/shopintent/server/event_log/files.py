"""What the processes that share a log agree on: its locks, and how far it was written.

.drainer.lock   held by the one process that writes records to it, as long as it does
.write.lock     held while records are written, and to end the segments written so far
.files.lock     held by the one process that rewrites or removes files, as long as it does

Who holds .files.lock may take .write.lock, never the other way round.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from shopintent.artifacts.event_log import DAYS, FORMAT_VERSION, LOG_FILE, SEGMENTS
from shopintent.artifacts.placing import sync

DRAINER_LOCK, WRITE_LOCK, FILES_LOCK = ".drainer.lock", ".write.lock", ".files.lock"

REWRITTEN = ".rewritten-"
"""Begins the names of files that are being written by whoever holds FILES_LOCK."""


PENDING = "deletion.json"
"""The pseudonyms that are being deleted, see `erasing`."""

OnProgress = Callable[[int, int], None]
"""Called with how many files, or days, are done, and of how many."""


def no_progress(done: int, total: int) -> None:
    """Listens to nothing."""


class EventLogError(Exception):
    """A log cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class LogState:
    """How far a log was written."""

    closed_through: int = 0
    """The number of the newest segment that nobody writes to any more, nor to any before it."""
    sequences: Mapping[str, int] = field(default_factory=dict)
    """By source the last record in the segments until then."""

    @classmethod
    def load(cls, folder: Path) -> LogState:
        """Reads it; a log without one is new. Raises EventLogError and OSError."""
        path = folder / LOG_FILE
        try:
            saved = json.loads(path.read_bytes())
            version = saved["format_version"]
            if version == FORMAT_VERSION:
                return cls(saved["closed_through"], saved["sequences"])
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise EventLogError(f"{path} is damaged ({error}); restore the folder") from error
        raise EventLogError(
            f"{path} was made by another version of the server (its format is {version}, this "
            f"server's is {FORMAT_VERSION}): start that version, or give another folder"
        )

    def save(self, folder: Path) -> None:
        """Writes it durably, whole or not at all; whoever calls holds WRITE_LOCK."""
        document = {
            "format_version": FORMAT_VERSION,
            "closed_through": self.closed_through,
            "sequences": dict(self.sequences),
        }
        write_whole(folder / LOG_FILE, json.dumps(document, indent=2).encode() + b"\n", ".part-")


def make_folders(folder: Path) -> None:
    """Makes what a log needs; only its owner may look into it."""
    for each in (folder, folder / SEGMENTS, folder / DAYS):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Waits for a lock and holds it; the system lets go of it when the process dies."""
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(lock: Path) -> IO[bytes] | None:
    """Takes a lock, which is held until it is closed; None when somebody else holds it."""
    file = lock.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        file.close()
        if isinstance(error, BlockingIOError):
            return None
        raise
    return file


def write_whole(path: Path, content: bytes, aside: str = REWRITTEN) -> None:
    """Replaces a file durably: it holds all of it, or what it held before."""
    written = path.with_name(aside + path.name)
    with written.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    put(written, path)


def put(written: Path, path: Path) -> None:
    """Gives a file that is on the disk its name, durably."""
    written.replace(path)
    sync(path.parent)


def remove(path: Path) -> None:
    """Removes a file, durably."""
    path.unlink()
    sync(path.parent)


def day_of(unix_s: float) -> str:
    """Returns the day of a moment in UTC, such as "2026-11-22"."""
    return datetime.fromtimestamp(unix_s, UTC).date().isoformat()
