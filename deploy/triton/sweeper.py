"""A process that clears up after Triton when nothing else can."""

import contextlib
import os
import signal
import time
from pathlib import Path

STOP_TIMEOUT_S = 10
"""How long tritonserver may take to finish what it is at, once it is told to end."""
SHARED_MEMORY = Path("/dev/shm")


def start_sweeper(group: int, shm_prefix: str) -> tuple[int, int]:
    """Fork a process that sweeps when this one is gone, however it ended.

    Returns its pid and the pipe it listens on: it starts when no process holds that open.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(read_end)
        return pid, write_end
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(write_end)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.read(read_end, 1)
        sweep(group, shm_prefix)
    finally:
        os._exit(0)


def sweep(group: int, shm_prefix: str) -> None:
    """Wait for the processes of `group` to end, kill those that do not, free their memory."""
    began = time.monotonic()
    while running := members(group):
        # tritonserver leads the group; without it the Python stubs have nothing to finish.
        patience_s = STOP_TIMEOUT_S + 5 if group in running else 3
        if time.monotonic() - began > patience_s:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        time.sleep(0.1)
    for region in SHARED_MEMORY.glob(f"{shm_prefix}*"):
        region.unlink(missing_ok=True)


def members(group: int) -> set[int]:
    """The pids in process group `group` that still run, so without zombies."""
    pids = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state not in "ZX":
                pids.add(int(stat.parent.name))
    return pids
