"""What an install pulls in, and that the lock fits pyproject.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TRAINING_ONLY = {"torch", "transformers", "sentence-transformers", "onnxruntime"}


def direct_requirements(package: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yields what the installed metadata of a package asks for with these extras."""
    try:
        declared = requires(package) or []
    except PackageNotFoundError:  # An alternative for another platform, or left out by its marker.
        return
    for requirement in map(Requirement, declared):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": each}) for each in {*extras, ""}):
            yield requirement


def everything_pulled_in(extra: str) -> set[str]:
    """Returns the name of every package that `shopintent[extra]` needs, directly or not."""
    visited: set[tuple[str, frozenset[str]]] = set()
    waiting = [("shopintent", frozenset({extra}))]
    while waiting:
        package, extras = waiting.pop()
        if (package, extras) in visited:
            continue
        visited.add((package, extras))
        for requirement in direct_requirements(package, extras):
            waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {package for package, _ in visited}


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    split = (line.split("==") for line in lines if not line.startswith("#"))
    return {name: version for name, version in split}


def declared_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


@pytest.mark.parametrize("extra", ["server", "client"])
def test_serving_and_calling_need_nothing_of_training(extra: str) -> None:
    pulled_in = everything_pulled_in(extra)
    assert "grpcio" in pulled_in
    assert pulled_in & TRAINING_ONLY == set()


def test_the_walk_over_the_metadata_sees_indirect_requirements() -> None:
    assert everything_pulled_in("trainer") >= {"torch", "transformers", "sympy"}


@pytest.mark.parametrize("requirement", declared_requirements(), ids=str)
def test_the_lock_pins_every_requirement_within_its_range(requirement: Requirement) -> None:
    pinned = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned)


def test_the_lock_fits_machines_with_and_without_a_gpu() -> None:
    assert not any("+" in version for version in pins().values())
    assert not any(name.startswith(("nvidia-", "cuda-")) or name == "triton" for name in pins())
