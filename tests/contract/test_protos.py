"""The generated code is that of the protos, and the four source roots stay one namespace."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
SOURCE_ROOTS = ("protos", "server", "trainer", "clients/python")


def generated(root: Path) -> dict[str, bytes]:
    found = sorted((root / "shopintent" / "v1").glob("*_pb2*"))
    return {path.name: path.read_bytes() for path in found}


def test_the_committed_code_is_what_the_protos_generate(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(PROTOS / "generate.py"), "--out", str(tmp_path)], check=True
    )
    committed = generated(PROTOS)
    assert sorted(committed) == sorted(generated(tmp_path))
    outdated = [name for name, code in generated(tmp_path).items() if committed[name] != code]
    assert outdated == [], "run `make proto`"


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_no_source_root_hides_the_others(root: str) -> None:
    assert not (ROOT / root / "shopintent" / "__init__.py").exists()


@pytest.mark.parametrize("portion", ["v1", "behavior", "artifacts", "server", "trainer", "client"])
def test_every_portion_of_the_namespace_can_be_imported(portion: str) -> None:
    importlib.import_module(f"shopintent.{portion}")
