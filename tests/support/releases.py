"""A releases root that holds small releases, for tests of who answers whom."""

from __future__ import annotations

from pathlib import Path

from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.routing import routing_path
from support.server import write_small_release


def released(folder: Path, *release_ids: str) -> ReleasesRoot:
    """Writes the releases that are not there yet; the first serves, and nothing was before."""
    root = ReleasesRoot(folder)
    for release_id in release_ids:
        if release_id not in root.release_ids():
            write_small_release(root, release_id)
    routing_path(folder).unlink(missing_ok=True)
    (folder / "audit.jsonl").unlink(missing_ok=True)
    root.set_current(release_ids[0])
    return root
