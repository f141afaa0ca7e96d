"""A release that is not exactly what was published is refused, with the file and the reason."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopintent.artifacts import Manifest, ReleaseError, ReleasesRoot, layout
from shopintent.artifacts.integrity import MIB, seal, sha256_of, verify_release
from support.server import make_tokenizer, write_small_release

pytestmark = pytest.mark.releases

FILES = (
    "releases/r1/behavior_tokenizer/arrays.npz",
    "releases/r1/behavior_tokenizer/tokenizer.json",
    "releases/r1/product_content.npy",
    "releases/r1/product_embeddings.npy",
    "releases/r1/products.jsonl",
    "releases/r1/text_tokenizer.json",
    "model_repository/intent_r1/1/model.onnx",
    "model_repository/intent_r1/config.pbtxt",
    "model_repository/product_encoder_r1/1/model.onnx",
    "model_repository/text_encoder_r1/config.pbtxt",
)


@pytest.fixture
def root(tmp_path: Path) -> ReleasesRoot:
    root = ReleasesRoot(tmp_path / "releases")
    write_small_release(root, "r1")
    return root


def resealed(root: ReleasesRoot, change: Callable[[Manifest], Manifest] = lambda m: m) -> None:
    """Makes hashes fit what lies there now, as a publisher with a bug would."""
    seal(root, change(Manifest.load(root.release("r1").manifest)))


def test_a_release_that_nobody_touched_passes(root: ReleasesRoot) -> None:
    manifest = verify_release(root, "r1")
    assert [file.path for file in manifest.files] == sorted(
        path.relative_to(root.path).as_posix()
        for path in root.path.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", "routing.json", "audit.jsonl")
        and not path.name.endswith(".lock")
    )  # fmt: skip
    assert set(FILES) <= {file.path for file in manifest.files}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found_in_any_file(root: ReleasesRoot, name: str) -> None:
    content = bytearray((root.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (root.path / name).write_bytes(content)
    with pytest.raises(ReleaseError, match=f"{name} was changed: its SHA-256") as raised:
        verify_release(root, "r1")
    assert "release r1 is damaged" in str(raised.value)
    assert "Publish the release again" in str(raised.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(root: ReleasesRoot, name: str) -> None:
    (root.path / name).unlink()
    with pytest.raises(ReleaseError, match=f"{name} is missing"):
        verify_release(root, "r1")


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_named_with_its_size(root: ReleasesRoot, name: str) -> None:
    content = (root.path / name).read_bytes()
    (root.path / name).write_bytes(content[:-3])
    why = f"{name} has {len(content) - 3} bytes instead of {len(content)}: cut short"
    with pytest.raises(ReleaseError, match=why):
        verify_release(root, "r1")


@pytest.mark.parametrize("name", ["releases/r1/notes.txt", "model_repository/intent_r1/2/m.onnx"])
def test_a_file_that_was_not_published_is_named(root: ReleasesRoot, name: str) -> None:
    (root.path / name).parent.mkdir(exist_ok=True)
    (root.path / name).touch()
    with pytest.raises(ReleaseError, match=f"{name} does not belong to it"):
        verify_release(root, "r1")


def test_many_damaged_files_are_counted(root: ReleasesRoot) -> None:
    for name in FILES:
        (root.path / name).unlink()
    with pytest.raises(ReleaseError, match=r"is missing; .* is missing; and 5 more\. Publish"):
        verify_release(root, "r1")


def test_the_manifest_of_another_release_is_refused(root: ReleasesRoot) -> None:
    write_small_release(root, "r2")
    shutil.copyfile(root.release("r2").manifest, root.release("r1").manifest)
    with pytest.raises(ReleaseError, match="r1 holds the manifest of another release, r2"):
        verify_release(root, "r1")


def test_a_missing_manifest_and_half_a_manifest_are_refused(root: ReleasesRoot) -> None:
    path = root.release("r1").manifest
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ReleaseError, match=f"{path} cannot be read: it is cut short"):
        verify_release(root, "r1")
    path.unlink()
    with pytest.raises(ReleaseError, match=f"{path} cannot be read: .*No such file"):
        verify_release(root, "r1")


def test_a_manifest_without_a_part_is_refused(root: ReleasesRoot) -> None:
    """A publisher that forgot a file seals a release that is not whole."""
    root.release("r1").product_embeddings.unlink()
    resealed(root)
    with pytest.raises(ReleaseError, match=r"product_embeddings\.npy is not named by the manifest"):
        verify_release(root, "r1")


def test_a_foreign_tokenizer_is_told_by_its_fingerprint(root: ReleasesRoot) -> None:
    foreign = make_tokenizer(max_events=32)
    foreign.save(root.release("r1").behavior_tokenizer)
    resealed(root)
    with pytest.raises(ReleaseError, match=f"foreign .* fingerprint is {foreign.fingerprint[:12]}"):
        verify_release(root, "r1")


def test_a_model_of_another_tokenizer_is_told_by_its_fingerprint(root: ReleasesRoot) -> None:
    foreign = make_tokenizer(max_events=32)
    foreign.save(root.release("r1").behavior_tokenizer)
    resealed(root, lambda manifest: replace(manifest, behavior_fingerprint=foreign.fingerprint))
    with pytest.raises(ReleaseError, match="intent_r1 was trained on a foreign tokenizer"):
        verify_release(root, "r1")


def test_a_damaged_tokenizer_of_the_publisher_is_refused(root: ReleasesRoot) -> None:
    (root.release("r1").behavior_tokenizer / "tokenizer.json").write_text("{}", encoding="utf-8")
    resealed(root)
    with pytest.raises(ReleaseError, match=r"behavior tokenizer in .* cannot be read"):
        verify_release(root, "r1")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"embedding_size": 32}, r"product_embeddings.npy holds float32\[40, 16\], .*\[40, 32\]"),
        ({"n_products": 41}, r"product_embeddings.npy holds float32\[40, 16\], .*\[41, 16\]"),
        ({"text_embedding_size": 384}, "codes texts of 8 dimensions, the manifest names 384"),
    ],
)
def test_a_wrong_dimension_is_named(root: ReleasesRoot, changes: dict[str, int], why: str) -> None:
    resealed(root, lambda manifest: replace(manifest, **changes))  # type: ignore[arg-type]
    with pytest.raises(ReleaseError, match=why):
        verify_release(root, "r1")


@pytest.mark.parametrize(
    ("file", "array"),
    [
        ("product_embeddings", np.zeros((40, 16), np.float64)),
        ("product_content", np.zeros((40, 7), np.int32)),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(
    root: ReleasesRoot, file: str, array: np.ndarray
) -> None:
    path: Path = getattr(root.release("r1"), file)
    np.save(path, array)
    resealed(root)
    with pytest.raises(ReleaseError, match=f"{path.name} holds {array.dtype}"):
        verify_release(root, "r1")


def test_a_product_without_a_vector_is_refused(root: ReleasesRoot) -> None:
    with root.release("r1").products.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"product_id": "one-more", "in_stock": True}) + "\n")
    resealed(root)
    with pytest.raises(ReleaseError, match="has 41 products, the manifest names 40"):
        verify_release(root, "r1")


def test_an_unreadable_config_is_refused(root: ReleasesRoot) -> None:
    config = root.model_repository / layout.intent_model("r1") / "config.pbtxt"
    config.write_text('name: "intent_r1"\n', encoding="utf-8")
    resealed(root)
    with pytest.raises(ReleaseError, match=r"config\.pbtxt names none"):
        verify_release(root, "r1")


def test_large_files_are_hashed_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    parts: list[int] = []
    tracemalloc.start()
    digest = sha256_of(path, parts.append)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert digest == "3b6a07d0d404fab4e23b6d34bc6696a6a312dd92821332385e5af7c01c421351"
    assert sum(parts) == 64 * MIB
    assert peak < 4 * MIB


def test_verifying_tells_how_far_it_is(root: ReleasesRoot) -> None:
    seen: list[tuple[str, int, int]] = []
    verify_release(root, "r1", lambda *step: seen.append(step))
    assert seen[-1] == ("verifying files", 1, 1)
