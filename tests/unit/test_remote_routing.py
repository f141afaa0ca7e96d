"""Routing that several machines follow: kept at a URL, copied to each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from shopintent.artifacts import ReleaseError, ReleasesRoot
from shopintent.artifacts.remote import upload
from shopintent.artifacts.remote_routing import changing_remote_routing, pull_routing
from shopintent.artifacts.routing import (
    Change,
    Routing,
    RoutingError,
    promoted,
    read_audit,
    read_routing,
)
from support.server import write_small_release

pytestmark = pytest.mark.releases

CHANGE = Change("promote", "r1", who="ann", why="better")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Where releases r1 and r2 are published, and nothing is routed yet."""
    url = f"memory://{uuid.uuid4()}"
    publisher = ReleasesRoot(tmp_path / "publisher")
    for release_id in ("r1", "r2"):
        write_small_release(publisher, release_id)
        upload(publisher, release_id, url)
    yield url
    fsspec.filesystem("memory").rm(url.removeprefix("memory:/"), recursive=True)


def promote(url: str, root: ReleasesRoot, release_id: str) -> None:
    with changing_remote_routing(url, root.path) as held:
        held.write(promoted(held.routing, release_id), CHANGE)


def test_a_change_made_on_one_machine_is_followed_on_another_with_its_releases(
    url: str, tmp_path: Path
) -> None:
    here, there = ReleasesRoot(tmp_path / "here"), ReleasesRoot(tmp_path / "there")
    assert pull_routing(url, there) is None
    promote(url, here, "r1")
    promote(url, here, "r2")
    followed = pull_routing(url, there)
    assert followed is not None
    assert (followed.serving, followed.previous, followed.generation) == ("r2", "r1", 2)
    assert read_routing(there.path) == followed
    assert there.release_ids() == ["r1", "r2"]


def test_a_machine_that_was_away_changes_what_the_others_changed_meanwhile(
    url: str, tmp_path: Path
) -> None:
    here, there = ReleasesRoot(tmp_path / "here"), ReleasesRoot(tmp_path / "there")
    promote(url, here, "r1")
    promote(url, there, "r2")
    routing = pull_routing(url, here)
    assert routing is not None
    assert (routing.serving, routing.previous, routing.generation) == ("r2", "r1", 2)
    audited = read_audit(there.path)
    assert [entry["generation"] for entry in audited] == [1, 2]


def test_a_machine_that_missed_changes_knows_them_from_the_audit_log(
    url: str, tmp_path: Path
) -> None:
    here, there = ReleasesRoot(tmp_path / "here"), ReleasesRoot(tmp_path / "there")
    promote(url, here, "r1")
    pull_routing(url, there)
    for release_id in ("r2", "r1", "r2"):
        promote(url, here, release_id)
    promote(url, there, "r1")
    pull_routing(url, here)
    for machine in (here, there):
        generations = [entry["generation"] for entry in read_audit(machine.path)]
        assert generations == [1, 2, 3, 4, 5]


def test_two_who_change_it_at_once_are_told(url: str, tmp_path: Path) -> None:
    here, there = ReleasesRoot(tmp_path / "here"), ReleasesRoot(tmp_path / "there")

    def promote_slowly() -> None:
        with changing_remote_routing(url, here.path) as held:
            promote(url, there, "r2")
            held.write(Routing("r1"), CHANGE)

    with pytest.raises(RoutingError, match="changed meanwhile"):
        promote_slowly()
    for machine in (here, there):
        routing = pull_routing(url, machine)
        assert routing is not None
        assert routing.serving == "r2"


def test_a_routing_to_a_release_that_is_not_there_is_not_followed(url: str, tmp_path: Path) -> None:
    here, there = ReleasesRoot(tmp_path / "here"), ReleasesRoot(tmp_path / "there")
    promote(url, here, "r1")
    pull_routing(url, there)
    promote(url, here, "r9")
    with pytest.raises(ReleaseError, match="r9"):
        pull_routing(url, there)
    routing = read_routing(there.path)
    assert routing is not None
    assert routing.serving == "r1"
