from __future__ import annotations

import json
from pathlib import Path

import pytest

from shopintent.artifacts import Manifest, ReleaseError
from support import shop as shops

MANIFEST = shops.manifest(3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    MANIFEST.save(path)
    return path


def test_a_saved_manifest_is_the_same_manifest(saved: Path) -> None:
    assert Manifest.load(saved) == MANIFEST
    assert hash(Manifest.load(saved)) == hash(MANIFEST)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=str(tmp_path / "manifest.json")):
        Manifest.load(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe"])
def test_a_damaged_manifest_is_refused(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    with pytest.raises(ReleaseError, match=str(saved)):
        Manifest.load(saved)


@pytest.mark.parametrize("version", [0, 1, "2", None])
def test_a_manifest_of_another_version_is_refused_with_the_remedy(
    saved: Path, version: object
) -> None:
    values = json.loads(saved.read_text(encoding="utf-8"))
    saved.write_text(json.dumps({**values, "format_version": version}), encoding="utf-8")
    with pytest.raises(ReleaseError, match="publish the release again"):
        Manifest.load(saved)


@pytest.mark.parametrize(
    "field", ["release_id", "actions", "answers", "popularity", "format_version"]
)
def test_a_manifest_that_lacks_a_field_is_refused(saved: Path, field: str) -> None:
    values = json.loads(saved.read_text(encoding="utf-8"))
    del values[field]
    saved.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ReleaseError, match=field if field != "format_version" else "version None"):
        Manifest.load(saved)


def test_fields_that_a_later_trainer_added_are_ignored(saved: Path) -> None:
    values = json.loads(saved.read_text(encoding="utf-8"))
    saved.write_text(json.dumps({**values, "added_later": 1}), encoding="utf-8")
    assert Manifest.load(saved) == MANIFEST
