"""Whether the files of a release are those that were published, and whether they fit each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from shopintent.artifacts import layout
from shopintent.artifacts.layout import ReleasesRoot
from shopintent.artifacts.manifest import AGAIN, Manifest, ReleaseError, ReleaseFile
from shopintent.artifacts.signature import FINGERPRINT_PARAMETER
from shopintent.behavior.tokenizer import N_CONTENT, BehaviorTokenizer, TokenizerError

Progress = Callable[[str, int, int], None]
"""Called every so often with what is being done, how much is done and of how much."""

CHUNK = 1 << 20
MIB = 1 << 20
NAMED = 5
"""So many damaged files are named, the others are counted."""


def silent(description: str, done: int, total: int) -> None:
    """Listens to nothing."""


def release_paths(root: ReleasesRoot, release_id: str) -> list[Path]:
    """Returns every file of a release but its manifest, its Triton models included."""
    folder = root.release(release_id)
    folders = [folder.path, *root.models(release_id)]
    found = (path for each in folders for path in each.rglob("*") if not path.is_dir())
    return sorted(path for path in found if path != folder.manifest)


def seal(root: ReleasesRoot, manifest: Manifest, on_progress: Progress = silent) -> Manifest:
    """Writes the manifest with the hash of every file of the release that lies under the root."""
    paths = release_paths(root, manifest.release_id)
    names = [path.relative_to(root.path).as_posix() for path in paths]
    progress = ByteProgress(
        "hashing files", sum(path.stat().st_size for path in paths), on_progress
    )
    files = tuple(
        ReleaseFile(name, path.stat().st_size, sha256_of(path, progress.add))
        for name, path in zip(names, paths, strict=True)
    )
    sealed = replace(manifest, files=files)
    sealed.save(root.release(manifest.release_id).manifest)
    return sealed


def verify_release(root: ReleasesRoot, release_id: str, on_progress: Progress = silent) -> Manifest:
    """Returns the manifest of a release that is whole, unchanged and of one piece.

    Raises ReleaseError, naming what is wrong with which file and the remedy.
    """
    manifest = Manifest.load(root.release(release_id).manifest)
    verify_files(root, release_id, manifest, on_progress)
    verify_parts(root, manifest)
    return manifest


def verify_files(
    root: ReleasesRoot, release_id: str, manifest: Manifest, on_progress: Progress = silent
) -> None:
    """Raises ReleaseError unless a release has exactly the files that its manifest names.

    Files are read once, a MiB at a time: about a second for a gigabyte.
    """
    if manifest.release_id != release_id:
        raise ReleaseError(
            f"release {release_id} holds the manifest of another release, "
            f"{manifest.release_id}; {AGAIN}"
        )
    problems = list(file_problems(root, manifest, on_progress))
    if problems:
        named = "; ".join(problems[:NAMED])
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise ReleaseError(f"release {release_id} is damaged: {named}{more}. {AGAIN.capitalize()}")


def file_problems(
    root: ReleasesRoot, manifest: Manifest, on_progress: Progress = silent
) -> Iterator[str]:
    """Yields what is wrong with the files of a release, each with its path."""
    expected = {file.path: file for file in manifest.files}
    present = {
        path.relative_to(root.path).as_posix() for path in release_paths(root, manifest.release_id)
    }
    for name in required_files(manifest.release_id):
        if name not in expected:
            yield f"{name} is not named by the manifest"
    for name in sorted(present - expected.keys()):
        yield f"{name} does not belong to it"
    progress = ByteProgress(
        "verifying files", sum(each.size for each in manifest.files), on_progress
    )
    for name, file in expected.items():
        if name not in present:
            yield f"{name} is missing"
            continue
        path = root.path / name
        size = path.stat().st_size
        if size != file.size:
            yield f"{name} has {size} bytes instead of {file.size}: cut short, or another file"
        elif (digest := sha256_of(path, progress.add)) != file.sha256:
            yield (
                f"{name} was changed: its SHA-256 begins with {digest[:12]} instead of "
                f"{file.sha256[:12]}"
            )


def required_files(release_id: str) -> list[str]:
    """Returns the paths without which nothing is a release."""
    folder = f"releases/{release_id}"
    return [
        f"{folder}/behavior_tokenizer/arrays.npz",
        f"{folder}/behavior_tokenizer/tokenizer.json",
        f"{folder}/product_content.npy",
        f"{folder}/product_embeddings.npy",
        f"{folder}/products.jsonl",
        f"{folder}/text_tokenizer.json",
        *(f"model_repository/{model}/config.pbtxt" for model in layout.models(release_id)),
    ]


def verify_parts(root: ReleasesRoot, manifest: Manifest) -> None:
    """Raises ReleaseError unless tokenizer, models and product vectors are of one piece.

    Hashes tell that nothing changed since publishing; this tells that the right things were
    published.
    """
    release_id = manifest.release_id
    folder = root.release(release_id)
    try:
        tokenizer = BehaviorTokenizer.load(folder.behavior_tokenizer)
    except TokenizerError as error:
        raise ReleaseError(f"release {release_id}: {error}; {AGAIN}") from error
    if tokenizer.fingerprint != manifest.behavior_fingerprint:
        raise ReleaseError(
            f"release {release_id} has a foreign behavior tokenizer: its fingerprint is "
            f"{tokenizer.fingerprint[:12]}, the manifest names "
            f"{manifest.behavior_fingerprint[:12]}; {AGAIN}"
        )
    model = model_fingerprint(root, release_id)
    if model != tokenizer.fingerprint:
        raise ReleaseError(
            f"release {release_id}: {layout.intent_model(release_id)} was trained on a foreign "
            f"tokenizer: its config.pbtxt names {model[:12] or 'none'}, the tokenizer of the "
            f"release has {tokenizer.fingerprint[:12]}; {AGAIN}"
        )
    if tokenizer.codebook.embedding_size != manifest.text_embedding_size:
        raise ReleaseError(
            f"release {release_id}: its behavior tokenizer codes texts of "
            f"{tokenizer.codebook.embedding_size} dimensions, the manifest names "
            f"{manifest.text_embedding_size}; {AGAIN}"
        )
    n_products = manifest.n_products
    for path, shape, dtype in (
        (folder.product_embeddings, (n_products, manifest.embedding_size), np.float32),
        (folder.product_content, (n_products, N_CONTENT), np.int32),
    ):
        verify_array(path, shape, np.dtype(dtype))
    n_lines = count_lines(folder.products)
    if n_lines != n_products:
        raise ReleaseError(
            f"{folder.products} has {n_lines} products, the manifest names {n_products}; {AGAIN}"
        )


def verify_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Raises ReleaseError unless a file holds an array of that shape and type."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ReleaseError(f"{path} cannot be read: {error}; {AGAIN}") from error
    if array.shape != shape or array.dtype != dtype:
        raise ReleaseError(
            f"{path} holds {array.dtype}{list(array.shape)}, the manifest asks for "
            f"{dtype}{list(shape)}; {AGAIN}"
        )


def model_fingerprint(root: ReleasesRoot, release_id: str) -> str:
    """Returns the fingerprint that the intent model's config.pbtxt names, empty where none."""
    path = root.model_repository / layout.intent_model(release_id) / "config.pbtxt"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(f"{path} cannot be read: {error}; {AGAIN}") from error
    found = re.search(rf'key:\s*"{FINGERPRINT_PARAMETER}"\s*value\s*{{\s*\w+:\s*"(\w*)"', text)
    return found[1] if found else ""


def count_lines(path: Path) -> int:
    """Returns how many lines a file has, without holding it."""
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK), b""))


def sha256_of(path: Path, on_bytes: Callable[[int], None]) -> str:
    """Returns the SHA-256 of a file, telling how many bytes were read after each part."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


class ByteProgress:
    """Counts bytes and shows them as MiB."""

    def __init__(self, description: str, total: int, on_progress: Progress) -> None:
        self._description, self._on_progress = description, on_progress
        self._done, self._total = 0, -(-total // MIB)

    def add(self, n_bytes: int) -> None:
        self._done += n_bytes
        self._on_progress(self._description, -(-self._done // MIB), self._total)
