"""Releases in another place: what arrives is what was published, and half of it is never seen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from shopintent.artifacts import Manifest, ReleaseError, ReleasesRoot
from shopintent.artifacts import remote as remotes
from shopintent.artifacts.integrity import verify_release
from shopintent.artifacts.manifest import digest_of
from shopintent.artifacts.remote import fetch, remote_release_ids, upload
from support.dying import deaths
from support.server import write_small_release

pytestmark = pytest.mark.releases

URL = "memory://bucket/shop"
STORE = "/bucket/shop"


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


@pytest.fixture
def local(tmp_path: Path) -> ReleasesRoot:
    root = ReleasesRoot(tmp_path / "elsewhere")
    write_small_release(root, "r2")
    return root


@pytest.fixture
def cache(tmp_path: Path) -> ReleasesRoot:
    return ReleasesRoot(tmp_path / "releases")


def hidden(root: ReleasesRoot) -> list[str]:
    return [path.name for path in root.path.glob(".*") if path.is_dir()]


def test_a_release_comes_back_as_it_was_published(
    store: MemoryFileSystem, local: ReleasesRoot, cache: ReleasesRoot
) -> None:
    assert remote_release_ids(URL) == []
    upload(local, "r2", URL)
    assert remote_release_ids(URL) == ["r2"]
    manifest = fetch("r2", URL, cache)
    assert manifest == verify_release(cache, "r2") == verify_release(local, "r2")
    assert cache.release_ids() == ["r2"]
    assert cache.current() is None, "traffic is nobody's business but the server's"
    for file in manifest.files:
        assert (cache.path / file.path).read_bytes() == (local.path / file.path).read_bytes()
    assert hidden(cache) == []


def test_fetching_again_reads_nothing_but_verifies(
    store: MemoryFileSystem, local: ReleasesRoot, cache: ReleasesRoot
) -> None:
    upload(local, "r2", URL)
    fetch("r2", URL, cache)
    store.rm(STORE, recursive=True)
    assert fetch("r2", URL, cache).release_id == "r2"
    cache.release("r2").products.unlink()
    with pytest.raises(ReleaseError, match=r"products\.jsonl is missing"):
        fetch("r2", URL, cache)


def test_a_published_release_is_never_written_again(
    store: MemoryFileSystem, local: ReleasesRoot
) -> None:
    upload(local, "r2", URL)
    before = store.cat_file(f"{STORE}/releases/r2/manifest.json")
    with pytest.raises(
        ReleaseError, match="memory://bucket/shop has a release r2: a release never"
    ):
        upload(local, "r2", URL)
    assert store.cat_file(f"{STORE}/releases/r2/manifest.json") == before


def test_what_is_not_there_is_said_with_what_is(
    store: MemoryFileSystem, local: ReleasesRoot, cache: ReleasesRoot
) -> None:
    upload(local, "r2", URL)
    with pytest.raises(ReleaseError, match="no complete release 'r9'; it has: r2"):
        fetch("r9", URL, cache)
    with pytest.raises(ReleaseError, match="is no release id"):
        fetch("../r2", URL, cache)
    assert cache.release_ids() == []


def test_a_release_without_its_manifest_is_not_there(
    store: MemoryFileSystem, local: ReleasesRoot, cache: ReleasesRoot
) -> None:
    upload(local, "r2", URL)
    store.rm_file(f"{STORE}/releases/r2/manifest.json")
    assert remote_release_ids(URL) == []
    with pytest.raises(ReleaseError, match="no complete release 'r2'; it has: none"):
        fetch("r2", URL, cache)
    upload(local, "r2", URL)
    assert fetch("r2", URL, cache).release_id == "r2"


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("flip", r"product_embeddings\.npy was changed: its SHA-256"),
        ("cut", r"product_embeddings\.npy has .* bytes instead of"),
        ("remove", r"product_embeddings\.npy is missing"),
        ("half a manifest", "the manifest of r2 in memory://bucket/shop: it is cut short"),
    ],
)
def test_a_damaged_store_gives_nothing_and_works_once_it_is_mended(
    store: MemoryFileSystem, local: ReleasesRoot, cache: ReleasesRoot, damage: str, why: str
) -> None:
    upload(local, "r2", URL)
    name = "manifest.json" if damage == "half a manifest" else "product_embeddings.npy"
    path = f"{STORE}/releases/r2/{name}"
    whole = store.cat_file(path)
    if damage == "remove":
        store.rm_file(path)
    else:
        flipped = whole[:-1] + bytes([whole[-1] ^ 1])
        store.pipe_file(path, flipped if damage == "flip" else whole[: len(whole) // 2])
    with pytest.raises(ReleaseError, match=why):
        fetch("r2", URL, cache)
    assert cache.release_ids() == []
    assert not list(cache.model_repository.glob("*"))
    store.pipe_file(path, whole)
    assert fetch("r2", URL, cache).release_id == "r2"


@pytest.mark.parametrize("name", ["../outside", "releases/r1/x", "model_repository/intent_r1/x"])
def test_a_manifest_that_reaches_out_of_its_release_is_refused(
    store: MemoryFileSystem, local: ReleasesRoot, cache: ReleasesRoot, name: str
) -> None:
    upload(local, "r2", URL)
    path = f"{STORE}/releases/r2/manifest.json"
    said = json.loads(store.cat_file(path))
    del said["digest"]
    said["files"][0]["path"] = name
    store.pipe_file(path, json.dumps({**said, "digest": digest_of(said)}).encode())
    with pytest.raises(ReleaseError, match=f"{name} does not belong to release r2"):
        fetch("r2", URL, cache)


def test_a_broken_line_costs_only_what_was_missing(
    store: MemoryFileSystem,
    local: ReleasesRoot,
    cache: ReleasesRoot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(local, "r2", URL)
    n_files = len(Manifest.load(local.release("r2").manifest).files)
    download, read = remotes._download_file, list[str]()

    def broken(files: object, source: str, path: Path, progress: object) -> None:
        if len(read) == n_files - 2:
            raise ConnectionError("the line is broken")
        read.append(source)
        download(files, source, path, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(remotes, "_download_file", broken)
    with pytest.raises(ConnectionError):
        fetch("r2", URL, cache)
    assert cache.release_ids() == []
    read.clear()
    fetch("r2", URL, cache)
    assert len(read) == 2


def test_many_servers_fetch_one_release_at_once(
    store: MemoryFileSystem, local: ReleasesRoot, cache: ReleasesRoot
) -> None:
    upload(local, "r2", URL)
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda _: fetch("r2", URL, cache), range(8)))
    assert {manifest.release_id for manifest in fetched} == {"r2"}
    verify_release(cache, "r2")
    assert hidden(cache) == []


def test_an_unknown_kind_of_url_is_explained() -> None:
    with pytest.raises(ReleaseError, match=r"ftpx://there cannot be opened: .*`pip install"):
        remote_release_ids("ftpx://there")


def test_kill_9_while_uploading_leaves_nothing_that_is_listed(
    local: ReleasesRoot, tmp_path: Path, cache: ReleasesRoot
) -> None:
    url, n_deaths = f"file://{tmp_path}/store", 0
    for _ in deaths(tmp_path, "upload"):
        n_deaths += 1
        if remote_release_ids(url):  # It died when everything was done.
            fetch("r2", url, cache)
            cache.delete("r2")
            shutil.rmtree(tmp_path / "store")
    assert n_deaths > 20
    assert fetch("r2", url, cache) == verify_release(local, "r2")


def test_kill_9_while_fetching_leaves_nothing_that_is_listed(
    local: ReleasesRoot, tmp_path: Path, cache: ReleasesRoot
) -> None:
    write_small_release(cache, "r1")
    upload(local, "r2", f"file://{tmp_path}/store")
    n_deaths = 0
    for _ in deaths(tmp_path, "fetch"):
        n_deaths += 1
        for release_id in cache.release_ids():
            verify_release(cache, release_id)
        cache.delete("r2")
    assert n_deaths > 20
    assert cache.release_ids() == ["r1", "r2"]
    assert hidden(cache) == []
