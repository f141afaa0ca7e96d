"""Releases roots that hold several releases, for tests of who answers whom."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from shopintent.artifacts import Manifest, ReleasesRoot
from shopintent.artifacts.integrity import seal
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


def clone_release(root: ReleasesRoot, release_id: str, clone_id: str) -> None:
    """Publishes a release once more under another id, Triton models included."""
    shutil.copytree(root.release(release_id).path, root.release(clone_id).path)
    for model, clone in zip(root.models(release_id), root.models(clone_id), strict=True):
        shutil.copytree(model, clone)
        config = clone / "config.pbtxt"
        config.write_text(config.read_text().replace(model.name, clone.name))
    manifest = Manifest.load(root.release(release_id).manifest)
    seal(root, replace(manifest, release_id=clone_id, parent=release_id))
