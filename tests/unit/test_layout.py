from __future__ import annotations

from pathlib import Path

import pytest

from shopintent.artifacts import ReleasesRoot, layout
from shopintent.artifacts.routing import read_routing


@pytest.fixture
def root(tmp_path: Path) -> ReleasesRoot:
    return ReleasesRoot(tmp_path)


def publish(root: ReleasesRoot, release_id: str) -> None:
    folder = root.release(release_id)
    folder.path.mkdir(parents=True)
    folder.manifest.write_text("{}", encoding="utf-8")


def test_a_release_is_there_once_its_manifest_is(root: ReleasesRoot) -> None:
    assert root.release_ids() == []
    root.release("half").path.mkdir(parents=True)
    publish(root, "r2")
    publish(root, "r1")
    assert root.release_ids() == ["r1", "r2"]


def test_folders_that_are_no_release_ids_are_not_releases(root: ReleasesRoot) -> None:
    for name in ("Upper", ".hidden", "under_score", "-dash", "a" * 64):
        publish(root, name)
    assert root.release_ids() == []


def test_no_release_serves_before_the_first_is_named(root: ReleasesRoot) -> None:
    assert root.current() is None


def test_the_release_that_serves_is_the_one_named_last(root: ReleasesRoot) -> None:
    root.set_current("r1")
    root.set_current("r2")
    assert root.current() == "r2"
    routing = read_routing(root.path)
    assert routing is not None
    assert (routing.previous, routing.canary, routing.generation) == ("r1", None, 2)


def test_all_files_of_a_release_lie_in_its_folder(root: ReleasesRoot) -> None:
    folder = root.release("r1")
    files = [
        folder.manifest,
        folder.golden,
        folder.behavior_tokenizer,
        folder.text_tokenizer,
        folder.products,
        folder.product_embeddings,
        folder.product_content,
    ]
    assert {path.parent for path in files} == {root.path / "releases" / "r1"}
    assert len(set(files)) == len(files)


def test_everything_of_a_release_is_named_after_it() -> None:
    names = [
        layout.intent_model("r1"),
        layout.text_encoder_model("r1"),
        layout.product_encoder_model("r1"),
        layout.collection("r1"),
    ]
    assert names == ["intent_r1", "text_encoder_r1", "product_encoder_r1", "products_r1"]
