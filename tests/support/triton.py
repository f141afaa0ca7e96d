"""A real tritonserver for tests, started by deploy/triton."""

import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = [sys.executable, "-m", "deploy.triton"]
"""The command, to be run in ROOT."""
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30


class Ready(TypedDict):
    """What the launcher writes to its ready file."""

    grpc: str
    http: str
    metrics: str
    pid: int
    triton_pid: int
    model_control_header: str
    model_control_key: str


class TritonDidNotStartError(RuntimeError):
    """The launcher gave up; the message is what it printed."""


@contextlib.contextmanager
def triton_server(repository: Path, load_models: Sequence[str]) -> Iterator[Ready]:
    """Serve `load_models` of `repository`; yields the addresses, the pids and the control key.

    The first call on a machine downloads Triton. Raises TritonDidNotStartError with the reason.
    """
    skip_unless_supported()
    with tempfile.TemporaryDirectory(prefix="triton-") as name:
        folder = Path(name)
        with (folder / "said").open("w") as said:
            subprocess.run([*LAUNCHER, "setup"], cwd=ROOT, stderr=said, check=False)
            launcher = subprocess.Popen(
                [*LAUNCHER, "serve", f"--model-repository={repository.absolute()}"]
                + [f"--load-model={model}" for model in load_models]
                + [f"--ready-file={folder / 'ready'}", f"--log-file={folder / 'log'}"]
                + ["--exit-with-parent"],
                cwd=ROOT,
                stderr=said,
            )
        try:
            yield wait_for(folder / "ready", launcher, folder / "said")
        finally:
            launcher.terminate()
            launcher.wait(STOP_TIMEOUT_S)


def skip_unless_supported() -> None:
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        pytest.skip(f"PyPI's tritonserver needs glibc 2.35; this machine has {libc} {version}")


def wait_for(ready_file: Path, launcher: subprocess.Popen[bytes], said: Path) -> Ready:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready_file.exists():
        if launcher.poll() is not None or time.monotonic() > deadline:
            raise TritonDidNotStartError(said.read_text())
        time.sleep(0.05)
    ready: Ready = json.loads(ready_file.read_text())
    return ready
