"""Which release answers whom: one small document in the releases root that every server follows.

routing.json   {"format_version": 1, "generation": 7, "serving": "r2", "previous": "r1",
                "canary": {"release_id": "r3", "percent": 5.0}, "shadow": {"release_id": ...}}

Servers agree without talking to each other: a shopper's bucket is a hash, and nothing else counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
"""Bump it when a field changes its meaning; another version is refused."""

BUCKETS = 10_000
"""The finest share of traffic is one of so many: 0.01 %."""


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


def routing_path(root: Path) -> Path:
    """Returns where the document lies in a releases root."""
    return root / "routing.json"


def read_routing(root: Path) -> Routing | None:
    """Returns the routing of a releases root; None before anything was published there.

    Raises RoutingError when the document is damaged or of another version.
    """
    path = routing_path(root)
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if saved.pop("format_version") != FORMAT_VERSION:
            raise RoutingError(f"its format version is not {FORMAT_VERSION}")
        shares = {
            name: Share(**saved.pop(name)) if saved.get(name) else None
            for name in ("canary", "shadow")
        }
        return Routing(**{**saved, **shares})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RoutingError(
            f"{path} cannot be read: {error}; delete it and name the release that serves with "
            "`shopintent-server releases promote`"
        ) from error


@contextmanager
def changing_routing(root: Path) -> Iterator[RoutingChange]:
    """Holds the document for one writer at a time, across processes, until the block ends.

    Readers never wait: they see the document before or after the change.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".routing.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield RoutingChange(root, read_routing(root))


@dataclass
class RoutingChange:
    """The document while it is held; `write` replaces it whole."""

    root: Path
    routing: Routing | None

    def write(self, routing: Routing) -> Routing:
        """Writes the next generation of the document, durably, and returns it."""
        generation = 1 if self.routing is None else self.routing.generation + 1
        self.routing = replace(routing, generation=generation)
        document = {"format_version": FORMAT_VERSION, **asdict(self.routing)}
        written = self.root / f".routing.{os.getpid()}"
        with written.open("w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(routing_path(self.root))
        return self.routing
