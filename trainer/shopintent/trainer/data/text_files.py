"""Brings text files to plain UTF-8: unpacks .gz and replaces invalid bytes, in one pass.

Files that are UTF-8 already are read where they are.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from shopintent.trainer.data.progress import Progress

CHUNK_BYTES = 8 * 1024 * 1024
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TextFile:
    """A log file as UTF-8 text."""

    path: Path
    """Where the UTF-8 text is: the file itself or a copy in the work folder."""
    n_lines: int
    invalid_utf8_lines: int
    """Lines in which invalid bytes were replaced by U+FFFD."""


def as_utf8(path: Path, copy: Path, progress: Progress) -> TextFile:
    """Returns the file as UTF-8 text; writes `copy` only when the file is packed or not UTF-8."""
    packed = path.suffix == ".gz"
    n_lines, invalid = _check(path, progress)
    if not packed and not invalid:
        return TextFile(path, n_lines, 0)
    with copy.open("wb") as target:
        for chunk in _line_chunks(path):
            target.write(chunk if _is_utf8(chunk) else _replaced(chunk))
    return TextFile(copy, n_lines, invalid)


def _check(path: Path, progress: Progress) -> tuple[int, int]:
    n_lines = invalid = done = 0
    total = path.stat().st_size
    last = b""
    for chunk in _line_chunks(path):
        n_lines += chunk.count(b"\n")
        if not _is_utf8(chunk):
            invalid += sum(not _is_utf8(line) for line in chunk.split(b"\n"))
        # The size unpacked is unknown; of a packed file the bar only shows that it moves.
        done = min(done + len(chunk), total)
        progress(f"check {path.name}", done, total)
        last = chunk[-1:]
    return n_lines + (last not in (b"", b"\n")), invalid


def _line_chunks(path: Path) -> Iterator[bytes]:
    """Yields whole lines, many at a time, so that no character is cut in two."""
    with opened(path) as stream:
        rest = b""
        while block := stream.read(CHUNK_BYTES):
            block = rest + block
            end = block.rfind(b"\n") + 1
            rest = block[end:]
            if end:
                yield block[:end]
        if rest:
            yield rest


def opened(path: Path) -> IO[bytes]:
    """Returns the file open for reading, unpacked when it is packed."""
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _replaced(data: bytes) -> bytes:
    return data.decode("utf-8", errors="replace").encode("utf-8")
