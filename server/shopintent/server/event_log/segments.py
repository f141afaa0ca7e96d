"""Segments: files that records are appended to, each once, and that nobody appends to once ended.

Whoever calls holds WRITE_LOCK. A record is in the log when it is on the disk. Of each source the
records are written in their order, so the last one tells which others are there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from shopintent.artifacts.event_log import (
    LOG_FILE,
    SEGMENTS,
    LogRecord,
    Segment,
    compacted,
    segments,
)
from shopintent.artifacts.placing import sync
from shopintent.server.event_log.files import LogState, day_of, make_folders

SEGMENT_BYTES = 64 << 20
"""From this size on a segment is ended."""
TAIL_BYTES = 1 << 20

_NUMBERED = re.compile(rb'^\{"source":("(?:[^"\\]|\\.)*"),"sequence":(\d+),', re.MULTILINE)
"""How every line begins, see LogRecord."""


def seal(folder: Path) -> LogState:
    """Ends the segments that are being written, or were by a process that died; none is lost.

    Their records count as written when it returns, and those that come go to other segments.
    """
    state = LogState.load(folder)
    there = segments(folder)
    numbers = [each.number for each in there] + [each.last for each in compacted(folder)]
    newest = max(numbers, default=0)
    if newest <= state.closed_through:
        return state
    written = {each: path for each, path in there.items() if each.number > state.closed_through}
    sequences = dict(state.sequences)
    for path in written.values():
        _cut_torn_line(path)
        # A process that died may have left them in the memory of the system only.
        sync(path)
        for source, sequence in _last_sequences(path).items():
            sequences[source] = max(sequence, sequences.get(source, sequence))
    sync(folder / SEGMENTS)
    sealed = LogState(newest, sequences)
    sealed.save(folder)
    return sealed


class SegmentWriter:
    """Appends to the log. Others may seal or append in between, with the lock."""

    def __init__(self, folder: Path, *, max_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._seen: tuple[int, int] | None = None
        """Which LOG_FILE was read last."""
        self._last: dict[str, int] = {}
        self._newest = 0
        """The number of the newest segment that was ended."""
        self._open: _OpenSegment | None = None

    def append(self, records: Sequence[LogRecord]) -> int:
        """Writes those that are not in the log yet; returns how many, once they are on the disk.

        Raises OSError when there is no room: what is left over of it is cut by the next call.
        """
        try:
            if self._seen is None or self._seen != self._stamp():
                self._begin_anew()
            new = self._not_in_the_log(records)
            # Each day's run is on the disk before the next begins, so none is ever in the log
            # whose predecessor is not.
            for day, run in groupby(new, key=lambda each: day_of(each.received_at)):
                self._write(day, list(run))
        except BaseException:
            self.close()
            raise
        return len(new)

    def close(self) -> None:
        """Lets go of the segment; the next call begins another."""
        self._seen = None
        if self._open is not None:
            self._open.close()
            self._open = None

    def _begin_anew(self) -> None:
        self.close()
        make_folders(self._folder)
        state = seal(self._folder)
        if not (self._folder / LOG_FILE).exists():
            state.save(self._folder)
        self._last, self._newest = dict(state.sequences), state.closed_through
        self._seen = self._stamp()

    def _not_in_the_log(self, records: Sequence[LogRecord]) -> list[LogRecord]:
        last = dict(self._last)
        new = []
        for record in records:
            if record.sequence > last.get(record.source, -1):
                last[record.source] = record.sequence
                new.append(record)
        return new

    def _write(self, day: str, run: Sequence[LogRecord]) -> None:
        lines = b"".join(record.to_line() for record in run)
        if self._open is not None and (
            self._open.segment.day != day or self._open.size + len(lines) > self._max_bytes
        ):
            self._end()
        if self._open is None:
            self._open = _OpenSegment(self._folder, Segment(day, self._newest + 1))
        self._open.write(lines)
        self._last.update((record.source, record.sequence) for record in run)

    def _end(self) -> None:
        assert self._open is not None
        self._newest = self._open.segment.number
        LogState(self._newest, self._last).save(self._folder)
        self._seen = self._stamp()
        self._open.close()
        self._open = None

    def _stamp(self) -> tuple[int, int]:
        try:
            status = (self._folder / LOG_FILE).stat()
        except FileNotFoundError:  # Somebody moved the log away while it is being written.
            return 0, 0
        return status.st_ino, status.st_mtime_ns


class _OpenSegment:
    """The segment that is being written."""

    def __init__(self, folder: Path, segment: Segment) -> None:
        self.segment = segment
        self.size = 0
        path = folder / SEGMENTS / segment.name
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            sync(path.parent)
        except BaseException:
            self.close()
            raise

    def write(self, lines: bytes) -> None:
        """Brings lines to the disk, all or none."""
        try:
            left = memoryview(lines)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError:
            # Where the system failed to write, it may hold what the disk does not.
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
                os.fsync(self._file)
            raise
        self.size += len(lines)

    def close(self) -> None:
        os.close(self._file)


def _cut_torn_line(path: Path) -> None:
    """Cuts what a process that died did not finish."""
    with path.open("r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        whole = 0
        while end and not whole:
            start = max(0, end - TAIL_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            whole, end = (start + found + 1, end) if found >= 0 else (0, start)
        if whole < size:
            file.truncate(whole)


def _last_sequences(path: Path) -> dict[str, int]:
    last: dict[bytes, bytes] = {}
    for source, sequence in _NUMBERED.findall(path.read_bytes()):
        last[source] = sequence
    return {json.loads(source): int(sequence) for source, sequence in last.items()}
