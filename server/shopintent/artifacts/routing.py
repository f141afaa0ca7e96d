"""Which release answers whom: one small document in the releases root that every server follows.

routing.json   {"format_version": 1, "generation": 7, "serving": "r2", "previous": "r1",
                "canary": {"release_id": "r3", "percent": 5.0}, "shadow": null,
                "change": {"action": "canary", "release_id": "r3", "who": "ann", "why": ...}}
audit.jsonl    every change so far, a JSON object a line, in order

Servers agree without talking to each other: a shopper's bucket is a hash, and nothing else counts.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
"""Bump it when a field changes its meaning; another version is refused."""

ROUTING, AUDIT = "routing.json", "audit.jsonl"

BUCKETS = 10_000
"""The finest share of traffic is one of so many: 0.01 %."""

MAX_WHY = 500
"""Characters of a reason for a change."""


class RoutingError(ValueError):
    """The document cannot be read, or a change to it makes no sense; the message says why."""


@dataclass(frozen=True)
class Share:
    """A release that takes part of the requests."""

    release_id: str
    percent: float
    """Of the shoppers, above 0 and at most 100."""

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise RoutingError(f"percent is {self.percent:g}; it must be above 0 and at most 100")

    def takes(self, visitor: str) -> bool:
        """Returns whether a visitor is among its share.

        The same for the same visitor everywhere and always; who was in stays in when it grows.
        """
        digest = hashlib.blake2b(f"{self.release_id}\0{visitor}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % BUCKETS < self.percent * BUCKETS / 100


@dataclass(frozen=True)
class Change:
    """Who changed the routing, and why."""

    action: str
    """publish, shadow, canary, promote, rollback or delete."""
    release_id: str
    """The release that it is about."""
    who: str
    why: str
    forced: bool = False
    """Whether a gate spoke against it."""
    at: str = ""
    """RFC 3339, UTC; filled in when it is written."""


@dataclass(frozen=True)
class Routing:
    """The whole document."""

    serving: str
    """The release that answers whoever nothing else is said of."""
    canary: Share | None = None
    """Answers its share of the visitors that name themselves."""
    shadow: Share | None = None
    """Is asked what its share of the visitors asks, and answers nobody."""
    previous: str | None = None
    """Served before, and is kept ready: rolling back costs nothing."""
    generation: int = 0
    """Rises with every change."""
    change: Change | None = None
    """The change that made it so."""

    def release_for(self, visitor: str) -> str:
        """Returns the release that answers a visitor; the serving one where nobody is named."""
        if self.canary is not None and visitor and self.canary.takes(visitor):
            return self.canary.release_id
        return self.serving

    @property
    def named(self) -> frozenset[str]:
        """Every release that must be kept ready."""
        shares = [each.release_id for each in (self.canary, self.shadow) if each is not None]
        return frozenset(each for each in (self.serving, self.previous, *shares) if each)


def promoted(routing: Routing | None, release_id: str) -> Routing:
    """Returns the routing in which a release serves alone, and the one before is kept ready."""
    if routing is None or routing.serving == release_id:
        return Routing(release_id, previous=None if routing is None else routing.previous)
    return Routing(release_id, previous=routing.serving)


def whoami() -> str:
    """Returns who runs this program, for the audit log: user@host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def routing_path(root: Path) -> Path:
    """Returns where the document lies in a releases root."""
    return root / ROUTING


def read_routing(root: Path) -> Routing | None:
    """Returns the routing of a releases root; None before anything was published there.

    Raises RoutingError when the document is damaged or of another version.
    """
    path = routing_path(root)
    try:
        return parse_routing(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RoutingError(
            f"{path} cannot be read: {error}; delete it and name the release that serves with "
            "`shopintent-server releases promote`"
        ) from error


def parse_routing(text: bytes) -> Routing:
    """Returns the routing of a document. What is wrong with it raises errors of many kinds."""
    saved: dict[str, Any] = json.loads(text)
    if saved.pop("format_version") != FORMAT_VERSION:
        raise RoutingError(f"its format version is not {FORMAT_VERSION}")
    shares = {
        name: Share(**saved.pop(name)) if saved.get(name) else None for name in ("canary", "shadow")
    }
    change = Change(**saved.pop("change")) if saved.get("change") else None
    return Routing(**{**saved, **shares, "change": change})


@contextmanager
def changing_routing(root: Path) -> Iterator[RoutingChange]:
    """Holds the document for one writer at a time, across processes, until the block ends.

    Readers never wait: they see the document before or after the change.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".routing.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield RoutingChange(root, read_routing(root))


def read_audit(root: Path) -> list[dict[str, Any]]:
    """Returns every change of the routing so far, oldest first, each with its generation."""
    try:
        lines = (root / AUDIT).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    entries = []
    for line in lines:
        # A crash may have cut a line short; the document still had that change, and it came again.
        with suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    return entries


@dataclass
class RoutingChange:
    """The document while it is held; `write` replaces it whole."""

    root: Path
    routing: Routing | None

    def write(self, routing: Routing, change: Change) -> Routing:
        """Writes the next generation of the document, durably, and returns it.

        The change is audited after it is made. A crash between the two loses nothing: the document
        holds its own change, which is audited before the next one.
        """
        generation = 1 if self.routing is None else self.routing.generation + 1
        change = replace(change, at=datetime.now(UTC).isoformat(timespec="milliseconds"))
        return self.adopt(replace(routing, generation=generation, change=change))

    def adopt(self, routing: Routing) -> Routing:
        """Writes a document as it is, such as one from another place."""
        self._audit()
        self.routing = routing
        document = {"format_version": FORMAT_VERSION, **asdict(routing)}
        written = self.root / f".routing.{os.getpid()}"
        with written.open("w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(routing_path(self.root))
        self._audit()
        return routing

    def _audit(self) -> None:
        """Appends the change that made the document, unless it is audited already."""
        if self.routing is None or self.routing.change is None:
            return
        audited = read_audit(self.root)
        if audited and audited[-1]["generation"] >= self.routing.generation:
            return
        entry = asdict(self.routing)
        line = json.dumps({"generation": entry.pop("generation"), **entry.pop("change"), **entry})
        with (self.root / AUDIT).open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size and file.seek(size - 1) == size - 1 and file.read(1) != b"\n":
                file.write(b"\n")
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
