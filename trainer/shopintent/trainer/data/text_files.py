"""Text files in chunks of whole lines, as UTF-8 whatever they held: .gz is unpacked, invalid bytes
are replaced and counted."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

CHUNK_BYTES = 32 * 1024 * 1024
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TextChunk:
    """Some lines of a file."""

    data: bytes
    """UTF-8."""
    first_line: int
    """Its number in the file, from 0."""
    invalid_utf8_lines: int
    """Lines in which invalid bytes were replaced by U+FFFD."""
    bytes_read: int
    """Of the file on disk, this chunk included."""


def text_chunks(path: Path) -> Iterator[TextChunk]:
    """Yields the file's lines in order, many at a time."""
    first_line = 0
    with path.open("rb") as disk:
        stream = _unpacked(disk, path)
        for chunk in _whole_lines(stream):
            data, invalid = chunk if first_line else chunk.removeprefix(BOM), 0
            if not _is_utf8(chunk):
                data = data.decode("utf-8", errors="replace").encode("utf-8")
                invalid = sum(not _is_utf8(line) for line in chunk.split(b"\n"))
            yield TextChunk(data, first_line, invalid, disk.tell())
            first_line += chunk.count(b"\n")


def header_line(path: Path) -> str:
    """Returns the file's first line without its end or a byte order mark."""
    with path.open("rb") as disk:
        line = _unpacked(disk, path).readline()
    return line.decode("utf-8-sig", errors="replace").rstrip("\r\n")


def _unpacked(disk: IO[bytes], path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=disk)) if path.suffix == ".gz" else disk


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(CHUNK_BYTES):
        block = rest + block
        end = block.rfind(b"\n") + 1
        rest = block[end:]
        if end:
            yield block[:end]
    if rest:
        yield rest


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
