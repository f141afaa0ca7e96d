"""Generates the Python code of the protos: `python protos/generate.py [--out DIR]`."""

from __future__ import annotations

import argparse
import sys
import sysconfig
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent
# googleapis-common-protos ships google/type and google/api in site-packages, grpcio-tools the rest.
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
INCLUDES = [ROOT, SITE_PACKAGES, SITE_PACKAGES / "grpc_tools" / "_proto"]
# Named by its path so that the environment need not be activated.
TYPED_STUBS = f"--plugin=protoc-gen-mypy_grpc={sysconfig.get_path('scripts')}/protoc-gen-mypy_grpc"


def run_protoc(arguments: list[str], protos: list[Path]) -> None:
    """Runs protoc on `protos`; exits the process with its status when it fails."""
    includes = [f"-I{folder}" for folder in INCLUDES]
    status = protoc.main(["protoc", *includes, *arguments, *map(str, protos)])
    if status != 0:
        sys.exit(status)


def generate(out: Path) -> None:
    """Writes messages with their type stubs, and service stubs where a file holds a service."""
    protos = sorted((ROOT / "shopintent" / "v1").glob("*.proto"))
    services = [path for path in protos if path.stem.endswith("_service")]
    run_protoc([f"--python_out={out}", f"--pyi_out={out}"], protos)
    options = [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", TYPED_STUBS]
    run_protoc(options, services)


def write_image(path: Path) -> None:
    """Writes the descriptor set, comments included, that buf lints without a network."""
    protos = sorted((ROOT / "shopintent" / "v1").glob("*.proto"))
    options = ["--include_imports", "--include_source_info", f"--descriptor_set_out={path}"]
    run_protoc(options, protos)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write to")
    parser.add_argument("--image", type=Path, help="write a descriptor set for buf instead")
    arguments = parser.parse_args()
    if arguments.image:
        write_image(arguments.image)
    else:
        generate(arguments.out)


if __name__ == "__main__":
    main()
