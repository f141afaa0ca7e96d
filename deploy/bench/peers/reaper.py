"""`python -m deploy.bench.peers.reaper COMMAND...`: a command that no process of it outlives.

Some servers start daemons that leave their group and session. Whatever loses its parent becomes a
child of this process (Linux only), which ends all of them when the command or itself is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

from deploy.bench.machine import descendants

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 10
"""For processes to end on their own, once they are told to."""


class Reaper:
    """Runs one command."""

    def __init__(self, command: list[str]) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        signal.signal(signal.SIGALRM, self._kill)
        self._ended = False
        self._command = subprocess.Popen(command)

    def run(self) -> int:
        """Returns the status of the command, when nothing of it runs any more."""
        status = 0
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, waited = os.wait()
                if pid == self._command.pid:
                    status, self._ended = os.waitstatus_to_exitcode(waited), True
                    self._command.returncode = status
                    send(signal.SIGTERM, descendants(os.getpid()))
                    signal.alarm(PATIENCE_S)
        return status

    def _end(self, *_: object) -> None:
        # Only the command: it knows best how to end what it has started.
        if not self._ended:
            send(signal.SIGTERM, [self._command.pid])
        signal.alarm(PATIENCE_S)

    def _kill(self, *_: object) -> None:
        send(signal.SIGKILL, descendants(os.getpid()))
        # Again, for what was started meanwhile.
        signal.alarm(1)


def send(number: int, pids: list[int]) -> None:
    """Sends a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(Reaper(sys.argv[1:]).run() & 0xFF)
