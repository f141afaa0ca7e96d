"""Builds a runtime: tritonserver, its Python backend, and an environment for that backend.

Runtimes carry a hash of this file, so a change here makes those that are installed out of date.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from deploy.triton.machine import PYTHON_VERSION
from deploy.triton.terminal import LaunchError, say

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
BACKEND_MODEL = HERE / "backends" / "onnxruntime" / "model.py"
INPUTS = (Path(__file__).resolve(), REQUIREMENTS, BACKEND_MODEL)
"""The files that a runtime is made from, besides the wheel that the first of them names."""

TRITON_WHEEL = "nvidia-pytriton==0.7.0"


def build(folder: Path, runtime: Path) -> None:
    """Assemble everything in `folder`, then rename it to `runtime` in one step."""
    say("[1/4] creating an environment for Triton's Python backend")
    run([sys.executable, "-m", "venv", str(folder / "env")])
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    say("[2/4] installing its numpy and onnxruntime")
    run([*pip, "install", "--only-binary=:all:", "--requirement", str(REQUIREMENTS)])
    say(f"[3/4] downloading {TRITON_WHEEL} (55 MB)")
    run([*pip, "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), TRITON_WHEEL])
    say("[4/4] unpacking tritonserver and its backends")
    unpack(folder)
    folder.chmod(0o755)
    folder.rename(runtime)


def unpack(folder: Path) -> None:
    """Take tritonserver, its libraries and the Python backend out of the wheel in `folder`."""
    (wheel,) = folder.glob("nvidia_pytriton-*.whl")
    triton = "pytriton/tritonserver"
    stub = f"{triton}/python_backend_stubs/{PYTHON_VERSION}/triton_python_backend_stub"
    wanted = ("nvidia_pytriton.libs/", f"{triton}/bin/", f"{triton}/backends/python/", stub)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(
            folder / "wheel", [name for name in archive.namelist() if name.startswith(wanted)]
        )
    wheel.unlink()
    backends = folder / "backends"
    shutil.move(folder / "wheel" / triton / "backends", backends)
    shutil.move(folder / "wheel" / stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    shutil.copy(BACKEND_MODEL, backends / "onnxruntime")
    # A zip archive read by Python loses the permission to execute.
    (folder / "wheel" / triton / "bin" / "tritonserver").chmod(0o755)
    (backends / "python" / "triton_python_backend_stub").chmod(0o755)


def run(command: list[str]) -> None:
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise LaunchError(
            f"this command failed; mend what it reports and repeat setup:\n  {' '.join(command)}"
        )
