"""The process over there: opens an engine, trains it as it is told, and answers in lines of JSON.

Started by `process.Worker` with an engine's name and the folder of the task. It says when it is
ready; then every command, a JSON object on a line of stdin, gets answers up to one with "done".
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from shopintent.trainer.peers.engine import Engine, FittingEngine, OpenEngine, Step
from shopintent.trainer.peers.exchange import (
    EngineConfig,
    load_histories,
    load_task,
    save_embeddings,
)

TASK_FILE = "task.npz"
CONFIG_FILE = "config.json"
HISTORIES_FILE = "histories.npz"
EMBEDDINGS_FILE = "embeddings.npz"

Message = dict[str, Any]
Answer = Callable[[Message], None]


@dataclass
class Slices:
    """Trains for as many seconds as each command says, and validates after each."""

    engine: Engine
    commands: Iterator[Message]
    answer: Answer
    seconds: float = 0.0
    n_targets: int = 0
    started: float = 0.0

    def run(self, first: Message) -> None:
        """Trains until the commands end."""
        self.begin(first)
        self.engine.train(self.goes_on)

    def begin(self, command: Message) -> None:
        """Starts a slice."""
        self.seconds, self.n_targets = command["seconds"], 0
        self.started = time.perf_counter()

    def goes_on(self, step: Step) -> bool:
        """Counts a batch; at the end of a slice answers and waits for the next command."""
        self.n_targets += step.n_targets
        seconds = time.perf_counter() - self.started
        if seconds < self.seconds:
            return True
        ndcg = self.engine.validate()
        counted = {"seconds": seconds, "n_targets": self.n_targets}
        self.answer({**counted, "ndcg": ndcg, "done": True})
        command = next(self.commands, None)
        if command is None:
            return False
        self.begin(command)
        return True


@dataclass
class Fit:
    """Trains whole epochs until validation gets no better, and goes back to the best."""

    engine: FittingEngine
    answer: Answer
    max_epochs: int
    patience: int
    max_seconds: float
    started: float = field(default_factory=time.perf_counter)
    n_targets: int = 0
    """Of this epoch so far."""
    history: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Leaves the engine at its best epoch."""
        self.engine.train(self.goes_on)
        self.engine.recall()

    def goes_on(self, step: Step) -> bool:
        """Judges every epoch, the last of which the time may cut short."""
        self.n_targets += step.n_targets
        late = time.perf_counter() - self.started > self.max_seconds
        self.answer({"epoch": len(self.history), "n_targets": self.n_targets})
        if not (step.last_of_epoch or late):
            return True
        self.n_targets = 0
        ndcg = self.engine.validate()
        if not self.history or ndcg > max(self.history):
            self.engine.remember()
        self.history.append(ndcg)
        since_best = len(self.history) - 1 - self.history.index(max(self.history))
        return not late and len(self.history) < self.max_epochs and since_best < self.patience


def serve(engine: Engine, folder: Path, commands: Iterator[Message], answer: Answer) -> None:
    """Fits and embeds, or trains in slices, as the first command says."""
    answer({"versions": list(engine.versions), "done": True})
    for command in commands:
        if command.pop("do") == "slice":
            Slices(engine, commands, answer).run(command)
        elif isinstance(engine, FittingEngine):
            fit = Fit(engine, answer, **command)
            fit.run()
            embeddings = engine.embed(load_histories(folder / HISTORIES_FILE))
            save_embeddings(folder / EMBEDDINGS_FILE, embeddings)
            answer({"history": fit.history, "done": True})
        else:
            raise TypeError(f"{type(engine).__name__} trains in slices only")


def main() -> None:
    """Runs an engine, given what comes behind its name and folder, until stdin ends."""
    name, folder, *arguments = sys.argv[1:]
    # Whatever a library prints must not stand between the answers.
    out, sys.stdout = sys.stdout, sys.stderr

    def answer(message: Message) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    config = EngineConfig(**json.loads(Path(folder, CONFIG_FILE).read_text(encoding="utf-8")))
    torch.set_num_threads(config.n_threads)
    engine = open_engine(name)(load_task(Path(folder, TASK_FILE)), config, *arguments)
    commands = (json.loads(line) for line in iter(sys.stdin.readline, ""))
    serve(engine, Path(folder), commands, answer)


def open_engine(name: str) -> OpenEngine:
    """Returns the function that "module:function" names."""
    module, _, function = name.partition(":")
    opened: OpenEngine = getattr(import_module(module), function)
    return opened
