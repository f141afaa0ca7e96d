from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shopintent.artifacts import Manifest, ReleaseError
from shopintent.artifacts.manifest import Calibration, ReleaseFile, digest_of
from shopintent.artifacts.metrics import Gate, MetricRow
from support import shop as shops

pytestmark = pytest.mark.releases

MANIFEST = replace(
    shops.manifest(3),
    parent="r0",
    calibration=(Calibration("session", 100, 0.02, 0.01, 1.05, None),),
    metrics=(
        MetricRow(
            model="shopintent", metric="ece", value=0.01, ci=(0.0, 0.02), split="time",
            horizon="session", seed=7, samples=100, gate=Gate(at_most=0.02),
        ),
        MetricRow(model="shopintent", metric="ndcg", value=0.3, split="time", k=10, prefix="3"),
    ),
    forced="the log is short",
    files=(ReleaseFile("releases/r1/products.jsonl", 12, "a" * 64),),
)  # fmt: skip


def save_by_hand(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a manifest that says whatever is given, and says that it was published so."""
    said = {name: value for name, value in values.items() if name != "digest"}
    path.write_text(json.dumps({**said, "digest": digest_of(said)}), encoding="utf-8")


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


@pytest.mark.parametrize("size", [1, 100, 1_000, -2])
def test_a_manifest_cut_short_is_refused(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ReleaseError, match="cut short"):
        Manifest.load(saved)


def test_a_manifest_with_a_flipped_byte_is_refused(saved: Path) -> None:
    text = saved.read_text(encoding="utf-8")
    saved.write_text(text.replace('"n_products": 3', '"n_products": 7'), encoding="utf-8")
    with pytest.raises(ReleaseError, match="changed after it was published"):
        Manifest.load(saved)


@pytest.mark.parametrize("version", [0, 2, "3", None])
def test_a_manifest_of_another_version_is_refused_with_the_remedy(
    saved: Path, version: object
) -> None:
    values = json.loads(saved.read_text(encoding="utf-8"))
    save_by_hand(saved, {**values, "format_version": version})
    with pytest.raises(ReleaseError, match="publish the release again"):
        Manifest.load(saved)


@pytest.mark.parametrize(
    "field",
    ["release_id", "actions", "answers", "popularity", "data", "files", "format_version"],
)
def test_a_manifest_that_lacks_a_field_is_refused(saved: Path, field: str) -> None:
    values = json.loads(saved.read_text(encoding="utf-8"))
    del values[field]
    save_by_hand(saved, values)
    with pytest.raises(ReleaseError, match=field if field != "format_version" else "version None"):
        Manifest.load(saved)


def test_fields_that_a_later_trainer_added_are_ignored(saved: Path) -> None:
    values = json.loads(saved.read_text(encoding="utf-8"))
    save_by_hand(saved, {**values, "added_later": 1})
    assert Manifest.load(saved) == MANIFEST
