"""What a bench ran on: the machine, the versions, the commit, and how much memory was held."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from deploy.bench import h2load
from deploy.triton.build import REQUIREMENTS, TRITON_WHEEL

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("grpcio", "protobuf", "numpy", "qdrant-edge-py", "tritonclient")


def describe() -> dict[str, object]:
    """Returns the processors, the memory and the versions that matter to speed."""
    return {
        "cpu": _first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")) or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
            "tritonserver of": TRITON_WHEEL,
            "onnxruntime of Triton": _first(r"onnxruntime==(\S+)", REQUIREMENTS),
            "h2load of": _output([h2load.find(), "--version"]).removeprefix("h2load "),
        },
    }


def commit() -> str:
    """Returns the commit that is measured, with "+changes" where files differ from it."""
    found = _output(["git", "rev-parse", "--short=12", "HEAD"])
    return found + (
        "+changes" if found and _output(["git", "status", "--porcelain", "-uno"]) else ""
    )


def memory_mb(pid: int) -> float:
    """Returns the memory of a process and all below it; pages they share count once."""
    return round(sum(_proportional_kb(each) for each in [pid, *descendants(pid)]) / 1024, 1)


def descendants(pid: int) -> list[int]:
    """Returns the ids of all processes below one."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of the program, in parentheses, may hold anything.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = children.get(pid, [])
    return [*found, *(below for child in found for below in descendants(child))]


def _proportional_kb(pid: int) -> int:
    kilobytes = _first(r"Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup"))
    return int(kilobytes or 0)


def _first(pattern: str, file: Path) -> str:
    try:
        found = re.search(pattern, file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return found.group(1).strip() if found else ""


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
