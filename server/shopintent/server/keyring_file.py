"""The keys of pseudonyms in a file: made at first start, rotated, and followed by servers.

{"format_version": 1, "keys": [{"key_id": "k2", "secret": "..", "created_at": ".."}, ..]}

The newest key comes first. Who has the file can tell whom records are about.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shopintent.artifacts.placing import sync
from shopintent.server.pseudonyms import Keyring, PseudonymKey

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
SECRET_BYTES = 32
KEY_ID = re.compile(r"k(\d{1,9})")
LOOK_S = 2.0
"""Between looks whether the file changed."""


class KeyringError(ValueError):
    """The file of keys cannot be used, or not so; the message says what to do."""


def read_keyring(path: Path) -> Keyring:
    """Returns the keys in a file. Raises KeyringError."""
    return Keyring(tuple(_key(entry) for entry in _read(path)))


def ensure_keyring(path: Path) -> Keyring:
    """Returns the keys in a file, which is made, with one key, where there is none.

    Raises KeyringError and OSError.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _changing(path):
            if not path.exists():
                _write(path, [_new_entry(1)])
    return read_keyring(path)


def rotate(path: Path) -> str:
    """Puts a new key in front and returns its id; raises KeyringError and OSError.

    Servers follow within LOOK_S. From then on records name shoppers anew, and older records are
    still found and deleted, until their key is retired.
    """
    with _changing(path):
        entries = _read(path)
        newest = max(_number(entry["key_id"]) for entry in entries)
        entry = _new_entry(newest + 1)
        _write(path, [entry, *entries])
    return str(entry["key_id"])


def retire(path: Path, key_id: str, records: int) -> None:
    """Removes a key that names nobody in the log any more: whom it named, nobody can tell then.

    `records` is how many still have it. Raises KeyringError unless there are none.
    """
    with _changing(path):
        entries = _read(path)
        ids = [entry["key_id"] for entry in entries]
        if key_id not in ids:
            raise KeyringError(f"no key has the id {key_id}; there are: {', '.join(ids)}")
        if key_id == ids[0]:
            raise KeyringError(f"{key_id} is the key in use: rotate first")
        if records:
            raise KeyringError(
                f"{records:,} records still name shoppers with {key_id}: wait until retention has "
                "removed them, or nobody can delete these shoppers any more"
            )
        _write(path, [entry for entry in entries if entry["key_id"] != key_id])


class FollowedKeyring:
    """The keys in a file as it is now; other processes may rotate them."""

    def __init__(
        self,
        path: Path,
        *,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._look_s = look_s
        self._clock = clock
        self._keyring = ensure_keyring(path)
        self._seen = self._stamp()
        self._looked_at = clock()

    @property
    def keys(self) -> tuple[PseudonymKey, ...]:
        """The keys in use now, the newest first."""
        return self._current().keys

    def pseudonym(self, visitor: str) -> str:
        """Returns what the visitor is called in the log from now on."""
        return self._current().pseudonym(visitor)

    def pseudonyms(self, visitor: str) -> tuple[str, ...]:
        """Returns everything the visitor may be called in the log."""
        return self._current().pseudonyms(visitor)

    def _current(self) -> Keyring:
        now = self._clock()
        if now - self._looked_at >= self._look_s:
            self._looked_at = now
            self._look()
        return self._keyring

    def _look(self) -> None:
        try:
            seen = self._stamp()
            if seen != self._seen:
                self._keyring = read_keyring(self._path)
                self._seen = seen
        except (OSError, KeyringError) as error:
            logger.error("%s; going on with the keys as they were", error)

    def _stamp(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_mtime_ns


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        saved = json.loads(path.read_bytes())
        entries: list[dict[str, Any]] = saved["keys"]
        if saved["format_version"] != FORMAT_VERSION or not entries:
            raise ValueError(f"its format is not version {FORMAT_VERSION}, or it has no key")
        for entry in entries:
            _key(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyringError(
            f"the keys of pseudonyms in {path} cannot be read ({error}); restore the file: with "
            "other keys nobody in the event log is found again"
        ) from error
    return entries


def _key(entry: dict[str, Any]) -> PseudonymKey:
    _number(entry["key_id"])
    secret = bytes.fromhex(entry["secret"])
    if not 16 <= len(secret) <= 64:
        raise ValueError("a secret has 16 to 64 bytes")
    return PseudonymKey(entry["key_id"], secret)


def _number(key_id: str) -> int:
    found = KEY_ID.fullmatch(key_id)
    if found is None:
        raise ValueError(f"{key_id!r} is no id of a key, such as k1")
    return int(found[1])


def _new_entry(number: int) -> dict[str, Any]:
    return {
        "key_id": f"k{number}",
        "secret": secrets.token_hex(SECRET_BYTES),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    """Replaces the file; only its owner may read it, from the first byte on."""
    written = path.with_name(f".{path.name}.part")
    with suppress(FileNotFoundError):
        written.unlink()
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"format_version": FORMAT_VERSION, "keys": entries}, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    sync(path.parent)
