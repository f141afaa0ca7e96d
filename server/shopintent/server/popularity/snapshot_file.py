"""The file of the snapshot: all processes of a server read it, and one of them writes it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import IO

from shopintent.server.event_log.files import try_lock, write_whole
from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.snapshot import Snapshot, SnapshotError

logger = logging.getLogger(__name__)


class SnapshotFile:
    """A file that this process writes for as long as no other one does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: IO[bytes] | None = None
        self._turn = threading.Lock()

    def restore(self, popularity: Popularity) -> str:
        """Puts the counters back and returns the position to go on from.

        "" where there is nothing to go on from: then the counters begin with what releases say,
        and the log tells why.
        """
        try:
            snapshot = Snapshot.from_bytes(self._path.read_bytes())
            snapshot.restore(popularity)
        except FileNotFoundError:
            logger.info("counting what is popular from the start: there is no %s", self._path)
            return ""
        except (SnapshotError, OSError) as error:
            logger.warning(
                "counting what is popular from the start, as if the releases were of today: "
                "%s cannot be used: %s",
                self._path,
                error,
            )
            return ""
        return snapshot.position

    def write(self, snapshot: Snapshot) -> bool:
        """Writes a snapshot durably, whole or not at all; returns False if another process does.

        Waits for the disk, so call it in a thread. Raises OSError.
        """
        with self._turn:
            if self._lock is None:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._lock = try_lock(self._path.with_name(f".{self._path.name}.lock"))
            if self._lock is None:
                return False
            write_whole(self._path, snapshot.to_bytes(), ".part-")
            return True

    def close(self) -> None:
        """Lets another process write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
