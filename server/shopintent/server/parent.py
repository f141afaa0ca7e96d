"""Lets a process end with the one that started it, even one that is killed (on Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Has SIGTERM sent to this process when process `parent`, which started it, ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # It ended before it could be asked for.
        os._exit(1)
