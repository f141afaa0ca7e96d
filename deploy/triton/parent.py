"""Lets a process end with the one that started it, even one that is killed (Linux only).

As a program, `python parent.py PID COMMAND...`, it becomes a command that ends with process PID.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

THIS_FILE = Path(__file__).resolve()
PR_SET_PDEATHSIG = 1


def ending_with_this_process(command: Sequence[str]) -> list[str]:
    """Return a command line that becomes `command`, but ends with this process at the latest.

    Unlike the `preexec_fn` of subprocess, it is safe in a process that has threads.
    """
    return [sys.executable, "-IS", str(THIS_FILE), str(os.getpid()), *command]


def end_with_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when `parent`, which started it, ends.

    It stays so in the program that this process becomes.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def become(command: list[str]) -> None:
    """Replace this process by `command`, with the signals that Python ignores as they were."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    become(sys.argv[2:])
