"""A writer of files that is killed (SIGKILL) before each of its operations on files in turn.

The operations are those Python audits: opening, making, renaming and removing files, and locks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.placing import aside, place
from shopintent.artifacts.remote import fetch, upload
from shopintent.server.event_log.erasing import erase
from shopintent.server.event_log.files import no_progress
from shopintent.server.event_log.upkeep import keep_up
from support.event_logs import KEPT_DAYS, NOW, append_in_parts
from support.server import write_small_release

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock"}
GO_ON = "go on\n"


def deaths(folder: Path, act: str) -> Iterator[None]:
    """Runs an act again and again, each time up to another operation; yields after each death.

    It ends when the act came to its end. `folder` holds "releases" and "store", or an event log,
    "log"; what an act left is to be looked at, and cleared for the next, while we wait.
    """
    command = [sys.executable, "-m", "support.dying", str(folder), act]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            status = int(line)
            if status == 0:
                return
            assert status == signal.SIGKILL, f"the writer failed: status {status}"
            yield
            process.stdin.write(GO_ON)
            process.stdin.flush()
    raise AssertionError("the writer ended without a word")


def acts(folder: Path) -> dict[str, Callable[[], object]]:
    """Returns what can be done in a folder."""
    root, store = ReleasesRoot(folder / "releases"), f"file://{folder}/store"

    def publish() -> None:
        with aside(root) as written:
            write_small_release(written, "r2")
            place(written, root, "r2")
        root.set_current("r2")

    def upload_it() -> None:
        upload(ReleasesRoot(folder / "elsewhere"), "r2", store)

    def fetch_it() -> None:
        fetch("r2", store, root)

    log = folder / "log"
    return {
        "publish": publish,
        "upload": upload_it,
        "fetch": fetch_it,
        "append": lambda: append_in_parts(log, days=(1, 0)),
        "keep up": lambda: keep_up(log, KEPT_DAYS, NOW, no_progress),
        "erase": lambda: erase(log, ["k1-aa"], no_progress),
    }


def main(folder: str, act: str) -> None:
    """Does the act in child processes, printing how each ended."""
    perform, operation = acts(Path(folder))[act], 0
    while True:
        child = os.fork()
        if child == 0:
            die_before(operation, folder)
            with suppress(BaseException):
                perform()
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        print(status, flush=True)
        if sys.stdin.readline() != GO_ON:
            return
        operation += 1


def die_before(operation: int, folder: str) -> None:
    """Has this process killed right before one of its operations in the folder."""
    left = operation

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in OPERATIONS and (isinstance(arguments[0], int) or folder in str(arguments[0])):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    main(*sys.argv[1:])
