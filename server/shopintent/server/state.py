"""The SQLite files of the state folder: how one is opened, and what is said of a bad one."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shopintent.server.errors import StateUnavailable

OPENING_TIMEOUT_S = 10.0
"""Other processes of the server may be making the same file."""
LOCK_TIMEOUT_S = 1.0
"""For whoever writes to the file past this module, such as a person with the sqlite3 tool."""


@dataclass(frozen=True)
class Database:
    """A SQLite file in write-ahead mode, shared by the processes of one machine."""

    path: Path
    name: str
    """What it holds, for messages: "sessions"."""
    schema: str
    """The statements that make its tables."""
    version: int
    """Of the schema. A file of another version is migrated, or not opened."""
    without: str
    """What the server does when the file is moved away."""
    migrations: Mapping[int, str] = field(default_factory=dict)
    """The statements that turn a file of an older version into one of the version behind it."""

    def connect(self, *, survives_power_loss: bool = False) -> sqlite3.Connection:
        """Opens the file, made first when needed; the connection commits each statement.

        What is committed survives the end of the process however it comes, and with
        `survives_power_loss` also that of the machine. Raises StateUnavailable.
        """
        with self.answer():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(
                self.path,
                timeout=OPENING_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=512,
            )
            try:
                _write_ahead(connection)
                # What is deleted is overwritten, so that nobody finds it in the file.
                connection.execute("PRAGMA secure_delete = ON")
                self._ensure_schema(connection)
                level = "FULL" if survives_power_loss else "NORMAL"
                connection.execute(f"PRAGMA synchronous = {level}")
                connection.execute("PRAGMA temp_store = MEMORY")
                connection.execute(f"PRAGMA busy_timeout = {round(1000 * LOCK_TIMEOUT_S)}")
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Turns what SQLite and the disk complain of into StateUnavailable."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise self.unavailable(str(error)) from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            why = (
                f"{error}: the file is damaged; stop the server and move {self.path.name}* in "
                f"{self.path.parent} away: {self.without}"
            )
            raise self.unavailable(why) from error

    @contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Commits what is written in it, or nothing; no other process writes meanwhile.

        Waits for the others, so call it in a thread; a process that dies keeps nobody waiting.
        """
        with self.alone():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps every other process from writing, as `transaction` does, without beginning one."""
        # SQLite waits by sleeping and looking again, and starves when many write at once: of four
        # busy processes some found it locked for more than a second. The kernel's lock wakes them.
        with self._lock_file.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that what is stored can be in."""
        suffixes = ("", "-wal", "-shm", "-journal")
        return tuple(self.path.with_name(self.path.name + suffix) for suffix in suffixes)

    def unavailable(self, why: str) -> StateUnavailable:
        """Returns the error of a file that does not do what it should."""
        return StateUnavailable(self.name, why)

    @property
    def _lock_file(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def _ensure_schema(self, connection: sqlite3.Connection) -> None:
        with self.transaction(connection):
            [found] = connection.execute("PRAGMA user_version").fetchone()
            if found == self.version:
                return
            [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            steps = [self.migrations.get(each) for each in range(found, self.version)]
            if found == 0 and tables == 0:
                steps = [self.schema]
            if found < self.version and None not in steps:
                for statement in ";".join(filter(None, steps)).split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {self.version}")
                return
        age = "a newer" if found > self.version else "another"
        raise self.unavailable(
            f"{self.path} was made by {age} version of the server (its schema is {found}, this "
            f"server's is {self.version}): start that version, or move {self.path.name}* away: "
            f"{self.without}"
        )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turns the write-ahead log on; the first to do so keeps others from waiting, so they retry."""
    ends_at = time.monotonic() + OPENING_TIMEOUT_S
    while True:
        try:
            [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > ends_at:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise OSError("its file system cannot share memory between processes; use a local disk")
