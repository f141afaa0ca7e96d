"""Releases in another place: any folder or object store that fsspec knows, named by a URL.

It has the layout of a releases root. Files are written first and the manifest last, so that a
release is there when its manifest is; what is read is verified by hash before anybody sees it.
`s3://` needs shopintent[s3], `gs://` needs shopintent[gcs].
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.spec import AbstractFileSystem

from shopintent.artifacts.integrity import (
    CHUNK,
    ByteProgress,
    Progress,
    release_paths,
    sha256_of,
    silent,
    verify_release,
)
from shopintent.artifacts.layout import RELEASE_ID, ReleasesRoot, models
from shopintent.artifacts.manifest import Manifest, ReleaseError, ReleaseFile
from shopintent.artifacts.placing import place

FETCHES = ".fetch-"


def remote_release_ids(url: str) -> list[str]:
    """Returns the ids of all complete releases under a URL, in order of name."""
    files, root = open_url(url)
    found = (PurePosixPath(each) for each in files.glob(f"{root}/releases/*/manifest.json"))
    return sorted(path.parent.name for path in found if RELEASE_ID.fullmatch(path.parent.name))


def refuse_existing(url: str, release_id: str) -> None:
    """Raises ReleaseError when a release of this id is there."""
    files, root = open_url(url)
    if files.exists(_manifest(root, release_id)):
        raise ReleaseError(
            f"{url} has a release {release_id}: a release never changes, give another id"
        )


def upload(local: ReleasesRoot, release_id: str, url: str, on_progress: Progress = silent) -> None:
    """Writes a local release to a URL; what dies in between is not there, and may be repeated.

    Raises ReleaseError when it is there already.
    """
    refuse_existing(url, release_id)
    files, root = open_url(url)
    paths = release_paths(local, release_id)
    progress = ByteProgress("uploading", sum(path.stat().st_size for path in paths), on_progress)
    for path in paths:
        target = f"{root}/{path.relative_to(local.path).as_posix()}"
        files.makedirs(target.rpartition("/")[0], exist_ok=True)
        with path.open("rb") as source, files.open(target, "wb") as sink:
            while chunk := source.read(CHUNK):
                sink.write(chunk)
                progress.add(len(chunk))
    # Stores write a file whole or not at all; folders do not, but move it so.
    arriving = f"{_manifest(root, release_id)}.part"
    files.pipe_file(arriving, local.release(release_id).manifest.read_bytes())
    files.mv(arriving, _manifest(root, release_id))


def fetch(
    release_id: str, url: str, cache: ReleasesRoot, on_progress: Progress = silent
) -> Manifest:
    """Brings a release from a URL into a local releases root, models included, whole or not at all.

    Files that arrived before are not read again, a release that is there is only verified. Several
    processes may fetch the same one at once. Raises ReleaseError, naming the release or the file.
    """
    if not RELEASE_ID.fullmatch(release_id):
        raise ReleaseError(f"{release_id!r} is no release id: it has a-z, 0-9 and -, at most 63")
    with _only_one(cache.path / f"{FETCHES}{release_id}.lock"):
        if cache.release(release_id).manifest.exists():
            return verify_release(cache, release_id, on_progress)
        arriving = ReleasesRoot(cache.path / f"{FETCHES}{release_id}")
        manifest = _download(release_id, url, arriving, on_progress)
        place(arriving, cache, release_id)
        shutil.rmtree(arriving.path)
        return manifest


def _download(release_id: str, url: str, to: ReleasesRoot, on_progress: Progress) -> Manifest:
    files, root = open_url(url)
    try:
        said = files.cat_file(_manifest(root, release_id))
    except FileNotFoundError as error:
        raise ReleaseError(
            f"{url} has no complete release {release_id!r}; it has: "
            f"{', '.join(remote_release_ids(url)) or 'none'}"
        ) from error
    try:
        manifest = Manifest.from_json(said)
    except ReleaseError as error:
        raise ReleaseError(f"the manifest of {release_id} in {url}: {error}") from error
    progress = ByteProgress("fetching", sum(each.size for each in manifest.files), on_progress)
    for file in manifest.files:
        path = to.path / _checked_name(file, release_id)
        if path.is_file() and path.stat().st_size == file.size:
            if sha256_of(path, progress.add) == file.sha256:
                continue
            progress.add(-file.size)
        _download_file(files, f"{root}/{file.path}", path, progress)
    to.release(release_id).manifest.write_bytes(said)
    try:
        return verify_release(to, release_id)
    except ReleaseError:
        shutil.rmtree(to.path)  # What is wrong there is wrong here; begin anew when it is mended.
        raise


def _download_file(
    files: AbstractFileSystem, source: str, path: Path, progress: ByteProgress
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.open(source, "rb") as given, path.open("wb") as taken:
            while chunk := given.read(CHUNK):
                taken.write(chunk)
                progress.add(len(chunk))
    except FileNotFoundError as error:
        raise ReleaseError(f"{source} is missing: publish the release again") from error


def _checked_name(file: ReleaseFile, release_id: str) -> str:
    """Returns where a file belongs. Raises ReleaseError when that is outside of the release."""
    parts = PurePosixPath(file.path).parts
    ours = parts[:2] == ("releases", release_id) or (
        parts[:1] == ("model_repository",) and parts[1:2] and parts[1] in models(release_id)
    )
    if not ours or ".." in parts:
        raise ReleaseError(f"{file.path} does not belong to release {release_id}: publish it again")
    return file.path


def _manifest(root: str, release_id: str) -> str:
    return f"{root}/releases/{release_id}/manifest.json"


def open_url(url: str) -> tuple[AbstractFileSystem, str]:
    """Returns the file system of a URL and the path in it. Raises ReleaseError for other URLs."""
    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ReleaseError(
            f"{url} cannot be opened: {error}. s3:// needs `pip install shopintent[s3]`, gs:// "
            "`pip install shopintent[gcs]`"
        ) from error
    # Listings are kept by some file systems, and what others publish would not be seen.
    files.invalidate_cache()
    return files, path.rstrip("/")


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Waits until no other process has the lock; a process that dies lets go of it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
