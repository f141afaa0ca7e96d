"""How long work tells that it moves; a rich progress bar or a test listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called every so often with what is being done, how much is done and of how much."""

    def __call__(self, description: str, done: int, total: int) -> None: ...


def silent(description: str, done: int, total: int) -> None:
    """Listens to nothing."""
