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
from pathlib import Path


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


def count_in(data: bytes | mmap.mmap, texts: Mapping[str, Sequence[str]]) -> int:
    """Counts texts, which are as in `count`, in bytes."""
    return sum(
        not any(_is_part(data, start, text.encode(), longer.encode()) for longer in all_longer)
        for text, all_longer in texts.items()
        for start in _starts(data, text.encode())
    )


def _count(path: Path, texts: Mapping[str, Sequence[str]]) -> int:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return count_in(data, texts)


def _starts(data: mmap.mmap | bytes, text: bytes) -> Iterator[int]:
    start = data.find(text)
    while start >= 0:
        yield start
        start = data.find(text, start + 1)


def _is_part(data: bytes | mmap.mmap, start: int, text: bytes, longer: bytes) -> bool:
    return any(
        start >= offset and data[start - offset : start - offset + len(longer)] == longer
        for offset in _starts(longer, text)
    )


if __name__ == "__main__":
    question = json.load(sys.stdin)
    print(count([Path(path) for path in question["paths"]], question["texts"]))
