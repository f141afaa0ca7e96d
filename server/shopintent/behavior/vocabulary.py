"""An ordered set of words whose positions are token ids."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

PADDING = 0
UNKNOWN = 1
FIRST = 2


def stranger(word: str) -> int:
    """Returns a number below 0 that tells a word no vocabulary holds from others of its kind.

    It is a hash (CRC-32): two strangers are alike only by a chance of one in two billion.
    """
    return -1 - (zlib.crc32(word.encode()) & 0x7FFFFFFF)


@dataclass(frozen=True)
class Vocabulary:
    """Words and their ids: 0 is padding or "none", 1 is unknown, words follow in order."""

    words: tuple[str, ...]

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every word."""
        return {word: position + FIRST for position, word in enumerate(self.words)}

    @property
    def size(self) -> int:
        """How many ids there are, padding and unknown included."""
        return len(self.words) + FIRST

    def lookup(self, word: str) -> int:
        """Returns the word's id: 0 for the empty word, 1 for a word it does not hold."""
        return self.ids.get(word, UNKNOWN) if word else PADDING

    def lookup_first(self, words: Iterable[str]) -> int:
        """Returns the id of the first word it holds; 1 if it holds none, 0 if there are none."""
        missing = PADDING
        for word in words:
            if word in self.ids:
                return self.ids[word]
            if word:
                missing = UNKNOWN
        return missing
