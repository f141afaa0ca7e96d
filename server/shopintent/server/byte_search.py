"""Counts how often texts occur among the bytes of files: `python -m shopintent.server.byte_search`.

It is a process of its own because of SQLite's files: a process that closes one, by whatever means,
loses all locks that it holds on it (fcntl(2)), so a server can not read its own files past SQLite.
The texts come on standard input, where other users of the machine do not see them.
"""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

PART_BYTES = 1 << 24
"""Read at a time."""


def count_in_child(
    paths: Sequence[Path], texts: Mapping[str, Sequence[str]], *, timeout_s: float
) -> int:
    """Counts in another process; `texts` are as in `count`. Raises OSError when it fails."""
    question = json.dumps({"paths": [str(path) for path in paths], "texts": texts})
    try:
        child = subprocess.run(
            [sys.executable, "-m", __name__],
            input=question,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise OSError(f"its files could not be searched: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise OSError("its files could not be searched in time") from error
    return int(child.stdout)


def count(paths: Sequence[Path], texts: Mapping[str, Sequence[str]]) -> int:
    """Counts texts in the files that there are.

    With each text come longer ones that it is a part of; what is a part of one of those does not
    count.
    """
    return sum(_count(path, texts) for path in paths if path.exists() and path.stat().st_size)


def count_in(
    data: bytes, texts: Mapping[str, Sequence[str]], *, within: range | None = None
) -> int:
    """Counts texts, which are as in `count`, in bytes: those that begin at some positions only."""
    positions = range(len(data)) if within is None else within
    return sum(
        not any(_is_part(data, position, text.encode(), longer.encode()) for longer in all_longer)
        for text, all_longer in texts.items()
        for position in _positions(data, text.encode())
        if position in positions
    )


def _count(path: Path, texts: Mapping[str, Sequence[str]]) -> int:
    margin = max((len(text.encode()) for text in chain(texts, *texts.values())), default=0)
    found = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # Searching in bytes is many times as fast as in a map of the file.
        for start in range(0, len(data), PART_BYTES):
            before = data[max(start - margin, 0) : start]
            part = before + data[start : start + PART_BYTES + margin]
            within = range(len(before), len(before) + PART_BYTES)
            found += count_in(part, texts, within=within)
    return found


def _positions(data: bytes, text: bytes) -> Iterator[int]:
    position = data.find(text)
    while position >= 0:
        yield position
        position = data.find(text, position + 1)


def _is_part(data: bytes, position: int, text: bytes, longer: bytes) -> bool:
    return any(
        position >= offset and data.startswith(longer, position - offset)
        for offset in _positions(longer, text)
    )


if __name__ == "__main__":
    question = json.load(sys.stdin)
    print(count([Path(path) for path in question["paths"]], question["texts"]))
