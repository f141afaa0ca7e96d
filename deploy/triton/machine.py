"""What the tritonserver of PyPI asks of the machine and the Python that run it."""

import platform
import sys
import sysconfig
from pathlib import Path

from deploy.triton.terminal import LaunchError

OLDEST_GLIBC = (2, 35)
# numpy < 2, which Triton's Python backend needs, has no build for later ones.
PYTHON_VERSIONS = ("3.11", "3.12")
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def check_platform() -> None:
    """Raise unless the wheel can run here: Linux, a recent glibc, a Python with its library."""
    libc, version = platform.libc_ver()
    if sys.platform != "linux" or libc != "glibc":
        raise LaunchError("the tritonserver of PyPI runs on Linux with glibc; use deploy/docker")
    if glibc_version() < OLDEST_GLIBC:
        raise LaunchError(
            f"tritonserver needs glibc {'.'.join(map(str, OLDEST_GLIBC))}, this machine has "
            f"{version}; use Debian 12, Ubuntu 22.04 or later, or deploy/docker"
        )
    if PYTHON_VERSION not in PYTHON_VERSIONS:
        raise LaunchError(
            f"run this with Python {' or '.join(PYTHON_VERSIONS)}, not {PYTHON_VERSION}: Triton's "
            "Python backend needs numpy < 2, which has no build for it"
        )
    python_library()


def glibc_version() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.libc_ver()[1].split(".")[:2] or ["0"] if part)


def python_library() -> Path:
    """The shared library of this Python, which Triton's Python backend embeds."""
    name = f"libpython{PYTHON_VERSION}.so.1.0"
    folders = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), Path(sys.base_prefix, "lib")]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise LaunchError(
        f"{name} is not in {' or '.join(map(str, folders))}: install it (on Debian and Ubuntu, "
        f"apt-get install libpython{PYTHON_VERSION}) or use a Python built with --enable-shared"
    )
