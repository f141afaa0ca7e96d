"""How a release comes into a releases root: whole or not at all.

It is written aside, in a hidden folder with the layout of a releases root. Models are moved into
the repository first and the release folder last: a release is there when its folder is. Whatever
dies in between leaves hidden folders, or models without a release; who writes next removes both.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from shopintent.artifacts import layout
from shopintent.artifacts.layout import RELEASE_ID, ReleasesRoot
from shopintent.artifacts.manifest import ReleaseError

LOCK = ".releases.lock"
ASIDE = ".aside-"


@contextmanager
def aside(root: ReleasesRoot) -> Iterator[ReleasesRoot]:
    """Makes a hidden releases root to write a release into; it is gone when the block ends.

    What died writers left is removed first.
    """
    root.path.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with _locked(root.path / LOCK):
            clean(root)
            folder = Path(mkdtemp(prefix=ASIDE, dir=root.path))
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            # Held as long as this process lives: nobody else takes the folder for a leftover.
            held.enter_context(_locked(folder / LOCK))
        yield ReleasesRoot(folder)


def place(written: ReleasesRoot, root: ReleasesRoot, release_id: str) -> None:
    """Moves a release that was written aside into the root. Raises ReleaseError, or OSError.

    Everything reaches the disk before the release is there, and an existing one never changes.
    """
    moves = [
        *zip(written.models(release_id), root.models(release_id), strict=True),
        (written.release(release_id).path, root.release(release_id).path),
    ]
    for source, _ in moves:
        sync_tree(source)
    with _locked(root.path / LOCK), ExitStack() as undo:
        refuse_existing(root, release_id)
        # Without a manifest it is what a deletion that died has left.
        shutil.rmtree(root.release(release_id).path, ignore_errors=True)
        _remove_orphans(root)
        for source, target in moves:
            target.parent.mkdir(exist_ok=True)
            source.rename(target)
            undo.callback(shutil.rmtree, target)
            sync(target.parent)
        undo.pop_all()


def refuse_existing(root: ReleasesRoot, release_id: str) -> None:
    """Raises ReleaseError when a release of this id is there."""
    folder = root.release(release_id)
    if folder.manifest.exists():
        raise ReleaseError(f"{folder.path} exists: a release never changes, give another id")


def clean(root: ReleasesRoot) -> None:
    """Removes what died writers left behind; whoever calls holds the lock of the root."""
    for folder in root.path.glob(f"{ASIDE}*"):
        with suppress(BlockingIOError), _locked(folder / LOCK, wait=False):
            shutil.rmtree(folder)
    _remove_orphans(root)


def _remove_orphans(root: ReleasesRoot) -> None:
    """Removes the models of releases that are not there; other models are left alone."""
    complete = {name for each in root.release_ids() for name in layout.models(each)}
    for folder in root.model_repository.glob("*_*"):
        _, _, release_id = folder.name.rpartition("_")
        ours = RELEASE_ID.fullmatch(release_id) and folder.name in layout.models(release_id)
        if ours and folder.name not in complete:
            shutil.rmtree(folder)


def sync_tree(folder: Path) -> None:
    """Brings every file and folder below to the disk; a power cut does not undo it."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a file for this process; the system lets go of it when the process dies.

    Raises BlockingIOError when somebody else holds it and we do not wait.
    """
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
