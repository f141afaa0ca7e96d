"""Our end of a worker: finds the Python it runs in, starts it, and speaks with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import shopintent.trainer
from shopintent.trainer.peers.exchange import EngineConfig, Task, save_task
from shopintent.trainer.peers.worker import CONFIG_FILE, TASK_FILE, Message

PEERS_VARIABLE = "SHOPINTENT_PEERS"
SOURCES = str(Path(shopintent.trainer.__file__).parents[2])
# Behind everything else, so that the packages of the environment over there come first.
START = f"import sys; sys.path.append({SOURCES!r}); from shopintent.trainer.peers import worker; "
START += "worker.main()"
LAST_WORDS = 800


class PeersError(ValueError):
    """The other trainers are not there, or one of them failed."""


def peers_python() -> Path:
    """Returns the Python of the other trainers' environment, or raises PeersError."""
    home = os.environ.get(PEERS_VARIABLE, str(Path(sys.prefix).parent / ".peers"))
    python = Path(home) / "bin" / "python"
    if not python.exists():
        raise PeersError(
            f"RecTools and RecBole are not set up: there is no {python}; run `make peers`, or name "
            f"their environment in {PEERS_VARIABLE}"
        )
    return python


@dataclass(frozen=True)
class Worker:
    """A trainer in a process of its own."""

    name: str
    folder: Path
    """What it reads and writes."""
    versions: tuple[str, ...]
    commands: IO[str]
    answers: IO[str]

    def ask(self, **command: Any) -> Iterator[Message]:
        """Sends a command and yields the answers; the last has "done". Raises PeersError."""
        try:
            self.commands.write(json.dumps(command) + "\n")
            self.commands.flush()
        except BrokenPipeError as error:
            raise failure(self.name, self.folder) from error
        yield from answers(self.name, self.folder, self.answers)


@contextmanager
def started(
    name: str, engine: str, python: Path, task: Task, config: EngineConfig, *arguments: str
) -> Iterator[Worker]:
    """Starts a worker with an engine, "module:function", and ends it with the context.

    The engine's function is called with the task, the configuration and the arguments.
    Raises PeersError when the engine does not open.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shopintent-")))
        save_task(folder / TASK_FILE, task)
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(config)), encoding="utf-8")
        log = stack.enter_context((folder / "log").open("w", encoding="utf-8"))
        process = subprocess.Popen(
            [str(python), "-c", START, engine, str(folder), *arguments],
            cwd=folder,
            env=environment(config.n_threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
        stack.enter_context(process.stdout)
        stack.callback(close, process.stdin)
        *_, ready = answers(name, folder, process.stdout)
        yield Worker(name, folder, tuple(ready["versions"]), process.stdin, process.stdout)


def environment(n_threads: int) -> dict[str, str]:
    """Returns our environment without what would lead the other Python to our packages."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return own | {"OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}


def answers(name: str, folder: Path, lines: IO[str]) -> Iterator[Message]:
    """Yields answers up to the one with "done"; raises PeersError where they end before."""
    for line in iter(lines.readline, ""):
        message: Message = json.loads(line)
        yield message
        if "done" in message:
            return
    raise failure(name, folder)


def failure(name: str, folder: Path) -> PeersError:
    """Returns the error of a worker that ended, with the end of what it said."""
    said = (folder / "log").read_text(encoding="utf-8", errors="replace")
    return PeersError(f"{name} ended unexpectedly: {said[-LAST_WORDS:].strip()}")


def close(pipe: IO[str]) -> None:
    """Closes a pipe whether or not somebody is at its other end."""
    with suppress(BrokenPipeError):
        pipe.close()
