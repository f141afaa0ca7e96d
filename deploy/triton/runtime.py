"""The folder that holds an installed Triton: made once by `setup`, used by `serve`."""

import contextlib
import fcntl
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploy.triton.build import INPUTS, build
from deploy.triton.machine import PYTHON_VERSION, check_platform
from deploy.triton.terminal import LaunchError, say

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_HOME = ROOT / ".triton"


def setup(home: Path) -> Path:
    """Build the runtime under `home` unless it is there, and return its folder."""
    check_platform()
    runtime = runtime_path(home)
    if runtime.is_dir():
        say(f"Triton is set up in {runtime}")
        return runtime
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / "lock"):
        if not runtime.is_dir():
            remove_unused(home)
            build(Path(tempfile.mkdtemp(prefix="building-", dir=home)), runtime)
    say(f"Triton is set up in {runtime}")
    return runtime


def runtime_path(home: Path) -> Path:
    """The folder whose name is the hash of everything it was built from: there, or out of date."""
    inputs = hashlib.sha256()
    for part in (PYTHON_VERSION, sys.base_prefix):
        inputs.update(part.encode() + b"\0")
    for file in INPUTS:
        inputs.update(file.read_bytes() + b"\0")
    return home / f"runtime-{inputs.hexdigest()[:16]}"


def installed(home: Path) -> Path:
    """The runtime that `setup` has built under `home`; raise when it is not there."""
    runtime = runtime_path(home)
    if not runtime.is_dir():
        state = "out of date" if any(home.glob("runtime-*")) else "not set up"
        where = "" if home == DEFAULT_HOME else f" --home {home}"
        raise LaunchError(
            f"Triton is {state} in {home}; run this in {ROOT}:\n"
            f"  {sys.executable} -m deploy.triton setup{where}"
        )
    return runtime


def remove_unused(home: Path) -> None:
    """Remove interrupted builds, and the runtimes of other pins that no server is using."""
    for leftover in [*home.glob("building-*"), *home.glob("runtime-*")]:
        with contextlib.suppress(BlockingIOError), locked(leftover / "lock", fcntl.LOCK_NB):
            say(f"removing {leftover}, which is out of date")
            shutil.rmtree(leftover)


@contextlib.contextmanager
def locked(path: Path, how: int = 0, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold the lock file `path`, waiting for its other holders unless `how` is LOCK_NB."""
    with path.open("w") as lock:
        fcntl.flock(lock, kind | how)
        yield
