"""Writes requirements.lock: the versions that pip resolves today, for `make lock`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HEADER = """\
# Pinned versions of everything, as a pip constraints file. Made by `make lock`; do not edit.
# Use: pip install -e '.[server,trainer,client,dev]' -c requirements.lock
# torch is pinned without the tag of its build (+cpu, +cu130) and the CUDA packages not at all,
# so that the same file fits machines with and without a GPU.
"""
OF_A_TORCH_BUILD = re.compile(r"nvidia-.*|cuda-.*|triton")


def resolve() -> list[dict[str, Any]]:
    """Returns the name and version of everything pip would install into an empty environment."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    extras = ".[server,trainer,client,dev]"
    report = subprocess.run(
        [*pip, "--quiet", "--report", "-", extras], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    return [entry["metadata"] for entry in json.loads(report.stdout)["install"]]


def pins(packages: list[dict[str, Any]]) -> list[str]:
    """Returns one line for each package but this one and those of a torch build."""
    versions = {
        re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"].partition("+")[0]
        for package in packages
    }
    return [
        f"{name}=={version}"
        for name, version in sorted(versions.items())
        if name != "shopintent" and not OF_A_TORCH_BUILD.fullmatch(name)
    ]


if __name__ == "__main__":
    lines = pins(resolve())
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"requirements.lock pins {len(lines)} packages")
