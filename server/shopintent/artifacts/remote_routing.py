"""The routing of a releases root in another place, of which every machine has a copy.

Servers follow the copy. It is brought here after the releases that it names, so that what it says
can be done; changes are made to both, by one person at a time: object stores have no locks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shopintent.artifacts.layout import ReleasesRoot
from shopintent.artifacts.remote import fetch, open_url
from shopintent.artifacts.routing import (
    AUDIT,
    ROUTING,
    Routing,
    RoutingChange,
    RoutingError,
    changing_routing,
    parse_routing,
    read_routing,
    routing_path,
)


def pull_routing(url: str, root: ReleasesRoot) -> Routing | None:
    """Brings the routing of a URL here, after the releases it names; returns what holds here now.

    Raises RoutingError, ReleaseError, and OSError when the URL cannot be read; what was here stays.
    """
    there, here = read_remote_routing(url), read_routing(root.path)
    if there is None or there == here:
        return here
    for release_id in sorted(there.named):
        fetch(release_id, url, root)
    with changing_routing(root.path) as held:
        _take_over(held, there, url)
    return there


@contextmanager
def changing_remote_routing(url: str, root: Path) -> Iterator[RoutingChange]:
    """Changes the routing at the URL, and here with it.

    Raises RoutingError when somebody else changed it there in the meantime; then it is theirs.
    """
    with changing_routing(root) as held:
        before = read_remote_routing(url)
        if before is not None and before != held.routing:
            _take_over(held, before, url)
        yield held
        there = read_remote_routing(url)
        if there is not None and there != before:
            _take_over(held, there, url)
            raise RoutingError(f"the routing of {url} was changed meanwhile; look and try again")
        _push(url, root)


def read_remote_routing(url: str) -> Routing | None:
    """Returns the routing of a URL, None before anything serves there. Raises RoutingError."""
    files, root = open_url(url)
    try:
        return parse_routing(files.cat_file(f"{root}/{ROUTING}"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RoutingError(f"the routing of {url} cannot be read: {error}") from error


def _take_over(held: RoutingChange, there: Routing, url: str) -> None:
    """Writes the routing of a URL here, and its audit log, which knows the changes missed here."""
    files, root = open_url(url)
    arriving = held.root / f".{AUDIT}.part"
    arriving.write_bytes(files.cat_file(f"{root}/{AUDIT}"))
    arriving.replace(held.root / AUDIT)
    # What held before is not to be audited: here it may be what never came to hold there.
    held.routing = None
    held.adopt(there)


def _push(url: str, root: Path) -> None:
    """Writes routing and audit log to the URL; the routing last, which is what others follow."""
    files, there = open_url(url)
    files.makedirs(there, exist_ok=True)
    files.pipe_file(f"{there}/{AUDIT}", (root / AUDIT).read_bytes())
    arriving = f"{there}/.{ROUTING}.part"
    files.pipe_file(arriving, routing_path(root).read_bytes())
    files.mv(arriving, f"{there}/{ROUTING}")
