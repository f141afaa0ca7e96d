"""A writer of releases may die at any moment: a release is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopintent.artifacts import ReleaseError, ReleasesRoot
from shopintent.artifacts.integrity import verify_release
from shopintent.artifacts.placing import aside, place
from support.dying import deaths
from support.server import write_small_release

pytestmark = pytest.mark.releases


@pytest.fixture
def root(tmp_path: Path) -> ReleasesRoot:
    root = ReleasesRoot(tmp_path / "releases")
    write_small_release(root, "r1")
    return root


def servable(root: ReleasesRoot) -> None:
    """Fails unless every release that is listed is whole, and the one that serves is listed."""
    listed = root.release_ids()
    assert root.current() in listed
    assert "r1" in listed
    for release_id in listed:
        verify_release(root, release_id)


def leftovers(root: ReleasesRoot) -> list[str]:
    return sorted(path.name for path in root.path.glob(".[a-z]*") if path.is_dir())


def test_a_release_is_placed_whole_and_nothing_is_left_aside(root: ReleasesRoot) -> None:
    with aside(root) as written:
        write_small_release(written, "r2")
        assert root.release_ids() == ["r1"]
        place(written, root, "r2")
    assert root.release_ids() == ["r1", "r2"]
    verify_release(root, "r2")
    assert leftovers(root) == []


def test_an_existing_release_is_not_replaced(root: ReleasesRoot) -> None:
    before = root.release("r1").manifest.read_bytes()
    with aside(root) as written:
        write_small_release(written, "r1")
        with pytest.raises(ReleaseError, match="r1 exists: a release never changes"):
            place(written, root, "r1")
    assert root.release("r1").manifest.read_bytes() == before
    servable(root)


def test_what_a_deletion_that_died_has_left_is_not_a_release(root: ReleasesRoot) -> None:
    root.set_current("r2")
    root.forget("r1")
    with aside(root) as written:
        write_small_release(written, "r1")
        place(written, root, "r1")
    verify_release(root, "r1")


def test_two_writers_at_once_do_not_take_each_other_for_dead(root: ReleasesRoot) -> None:
    with aside(root) as first, aside(root) as second:
        for written, release_id in ((first, "r2"), (second, "r3")):
            write_small_release(written, release_id)
        place(second, root, "r3")
        place(first, root, "r2")
    assert root.release_ids() == ["r1", "r2", "r3"]
    servable(root)


def test_models_of_others_in_the_repository_are_left_alone(root: ReleasesRoot) -> None:
    for name in ("intent_r7", "fraud_r7", "text_encoder_", "reranker"):
        (root.model_repository / name).mkdir()
    with aside(root):
        pass
    left = {path.name for path in root.model_repository.iterdir()}
    assert left == {
        "fraud_r7", "text_encoder_", "reranker",
        "intent_r1", "text_encoder_r1", "product_encoder_r1",
    }  # fmt: skip


def test_kill_9_of_a_publisher_at_any_operation_leaves_a_servable_state(
    root: ReleasesRoot, tmp_path: Path
) -> None:
    n_deaths = n_left = 0
    for _ in deaths(tmp_path, "publish"):
        n_deaths += 1
        n_left += bool(leftovers(root))
        servable(root)
        if "r2" in root.release_ids():  # It was killed around being told to serve.
            root.set_current("r1")
            root.delete("r2")
    assert n_deaths > 40
    assert n_left > 20
    assert root.current() == "r2"
    servable(root)
    assert leftovers(root) == []
    assert len(list(root.model_repository.iterdir())) == 6
