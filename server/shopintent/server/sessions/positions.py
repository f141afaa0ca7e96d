"""What a position looks like that stands for a state of a store."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

_TEXT = re.compile(r"([0-9a-f]{16}):([0-9]{1,18})")


def new_epoch() -> str:
    """Returns a name for everything that one store numbers, until it is lost."""
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Position:
    """A number among those of an epoch; numbers only rise. Another epoch is another store."""

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.number}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises ValueError for what is no position."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no position of this store")
        return cls(match[1], int(match[2]))
