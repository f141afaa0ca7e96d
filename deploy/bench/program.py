"""What the programs of the benches have in common: how they begin, fail, end and write."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
from rich.console import Console
from rich.text import Text

from deploy.bench.load import LoadError
from deploy.bench.release import bench_release
from deploy.bench.verify import WrongAnswer
from deploy.demo.processes import ProcessError
from deploy.demo.screen import console as wide_console
from shopintent.artifacts import ReleaseError, ReleasesRoot
from shopintent.client import ShopIntentError

INTERRUPTED = 130


def run(work: Callable[[Console], list[Path]], *failures: type[Exception]) -> int:
    """Does the work of a bench, which returns the files it wrote; returns the exit code.

    `failures` are those that it may have beside the ones that all have.
    """
    console = wide_console()
    # Ending a bench in any way ends its processes: finally blocks run.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    expected: tuple[type[Exception], ...] = (
        LoadError, ProcessError, ReleaseError, ShopIntentError, WrongAnswer, grpc.RpcError,
        *failures,
    )  # fmt: skip
    started = time.monotonic()
    try:
        written = work(console)
    except KeyboardInterrupt:
        console.print("stopped")
        return INTERRUPTED
    except expected as error:
        console.print("\n[bold red]the bench failed:[/]", Text(str(error)))
        return 1
    if written:
        console.print(f"{' '.join(map(str, written))}: after {time.monotonic() - started:.0f} s")
    return 0


def command(target: str) -> str:
    """Returns the command that measures the same again."""
    arguments = sys.argv[1:]
    return f"make {target}" + (f" ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "")


def releases_of(console: Console, given: Path | None, out: Path) -> ReleasesRoot:
    """Returns the releases root that was given, or one made for benches."""
    return bench_release(console, out / "release") if given is None else ReleasesRoot(given)


def write_all(folder: Path, writers: Mapping[str, Callable[[Path], object]]) -> list[Path]:
    """Writes files by their names, all or none, and returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {folder / name: folder / f".part.{name}" for name in writers}
    for part, write in zip(parts.values(), writers.values(), strict=True):
        write(part)
    return [part.replace(file) for file, part in parts.items()]
