"""Text files in chunks of whole lines, as UTF-8 whatever they held: compressed ones are unpacked,
invalid bytes are replaced and counted."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

UTF_8 = ("utf-8", "utf-8-sig", "ascii")
UNPACKED: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
"""Suffixes of compressed files, and what unpacks them."""
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


def text_chunks(path: Path, encoding: str = "utf-8") -> Iterator[TextChunk]:
    """Yields the file's lines in order, many at a time."""
    first_line = 0
    with path.open("rb") as disk:
        stream = _as_utf8(disk, path, encoding)
        for chunk in _whole_lines(stream):
            data, invalid = chunk if first_line else chunk.removeprefix(BOM), 0
            if not _is_utf8(chunk):
                data = data.decode("utf-8", errors="replace").encode("utf-8")
                invalid = sum(not _is_utf8(line) for line in chunk.split(b"\n"))
            yield TextChunk(data, first_line, invalid, disk.tell())
            first_line += chunk.count(b"\n")


def header_line(path: Path, encoding: str = "utf-8") -> str:
    """Returns the file's first line without its end or a byte order mark."""
    with path.open("rb") as disk:
        line = _as_utf8(disk, path, encoding).readline()
    return str(line.decode("utf-8-sig", errors="replace").rstrip("\r\n"))


def plain_suffix(path: Path) -> str:
    """Returns the suffix of what a compressed file holds: ".csv" of a.csv.gz."""
    return path.with_suffix("").suffix if path.suffix in UNPACKED else path.suffix


def _as_utf8(disk: IO[bytes], path: Path, encoding: str) -> Any:
    stream = UNPACKED[path.suffix](disk) if path.suffix in UNPACKED else disk
    if codecs.lookup(encoding).name in UTF_8:
        return stream
    return codecs.EncodedFile(stream, "utf-8", encoding, errors="replace")


def _whole_lines(stream: Any) -> Iterator[bytes]:
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
