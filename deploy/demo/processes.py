"""Child processes that outlive neither the block that started them nor this process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.triton.parent import ending_with_this_process

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
LOG_LINES = 15


class ProcessError(Exception):
    """A process did not do what it should; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Process:
    """A running child."""

    name: str
    popen: subprocess.Popen[bytes]
    log_file: Path

    def check(self) -> None:
        """Raises ProcessError when it has ended."""
        if (status := self.popen.poll()) is not None:
            raise ProcessError(f"{self.name} ended with status {status}{self._log_tail()}")

    def wait_until(self, done: Callable[[], bool], *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when `done` holds; raises ProcessError when the child ends or time is up."""
        deadline = time.monotonic() + timeout_s
        while not done():
            self.check()
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} was not ready after {timeout_s:g} s{self._log_tail()}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it, gracefully if it can, and returns when it is gone."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            self.popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def _log_tail(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "".join(f"\n  {line}" for line in lines[-LOG_LINES:])
        return f"; the end of its log {self.log_file}:{tail}"


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    log_file: Path,
    *,
    folder: Path | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """Runs a command beside this process and ends it with the block, whatever happens there.

    It runs in `folder`, or where this process does. It ends too when this process is killed.
    `secrets` are environment variables, which unlike arguments no list of processes shows.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("wb") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends its children in
        # the right order.
        popen = subprocess.Popen(
            ending_with_this_process(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**clean_environment(), **(secrets or {})},
            start_new_session=True,
        )
    process = Process(name, popen, log_file)
    try:
        yield process
    finally:
        process.stop()


def clean_environment() -> dict[str, str]:
    """Returns this process's environment without options meant for another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHOPINTENT_")}
