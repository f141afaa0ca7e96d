"""The protos keep their style and never break; their code is current; one namespace holds it."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
GOLDEN = ROOT / "tests" / "golden" / "shopintent.v1.binpb"
"""The descriptor set that v1 promised; written anew by `python protos/generate.py --image` only
when something was added."""

BUF = ["npx", "--yes", "@bufbuild/buf@1.75.0"]
needs_npx = pytest.mark.skipif(shutil.which("npx") is None, reason="buf is run by npx: install npm")

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


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The descriptor set of the protos as they are, with comments."""
    path = tmp_path_factory.mktemp("image") / "shopintent.binpb"
    subprocess.run([sys.executable, str(PROTOS / "generate.py"), "--image", str(path)], check=True)
    return path


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs buf with the project's rules."""
    config = ["--config", str(PROTOS / "buf.yaml")]
    command = [*BUF, *map(str, arguments), *config]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_npx
def test_the_protos_keep_the_style_rules(image: Path) -> None:
    done = buf("lint", image)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@needs_npx
def test_nothing_that_v1_promised_is_broken(image: Path) -> None:
    done = buf("breaking", image, "--against", GOLDEN)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@needs_npx
def test_a_removed_field_would_be_noticed(image: Path, tmp_path: Path) -> None:
    """The check above can fail: it sees a field go."""
    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    product = next(file for file in files.file if file.name.endswith("/product.proto"))
    del product.message_type[0].field[-1]
    broken = tmp_path / "broken.binpb"
    broken.write_bytes(files.SerializeToString())
    done = buf("breaking", broken, "--against", GOLDEN)
    assert done.returncode != 0
    assert "availability" in done.stdout


def test_every_rpc_says_whether_it_is_safe_to_retry(image: Path) -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    ours = [file for file in files.file if file.package == "shopintent.v1"]
    methods = [method for file in ours for each in file.service for method in each.method]
    assert len(methods) >= 6
    assert [method.name for method in methods if not method.options.idempotency_level] == []


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_no_source_root_hides_the_others(root: str) -> None:
    assert not (ROOT / root / "shopintent" / "__init__.py").exists()


@pytest.mark.parametrize("portion", ["v1", "behavior", "artifacts", "server", "trainer", "client"])
def test_every_portion_of_the_namespace_can_be_imported(portion: str) -> None:
    importlib.import_module(f"shopintent.{portion}")
