"""How much processor time processes have taken."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.bench.machine import descendants

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Returns the processor time, in seconds, of a process and of all that run below it.

    That of processes that have ended counts where their parent has waited for them.
    """
    return sum(map(_ticks, [pid, *descendants(pid)])) / TICKS_A_SECOND


def _ticks(pid: int) -> int:
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    # utime, stime, cutime and cstime are fields 14 to 17 of proc(5); these begin with the third.
    return sum(map(int, fields[11:15]))
