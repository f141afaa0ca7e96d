"""Logs as JSON lines on stderr: time, level, logger, message and the fields of the record."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, TextIO

Entry = tuple[float, dict[str, Any]]
"""When something was, in unix seconds, and what."""


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, or one that tells of several things as a line for each.

    Those are its `each`: times and fields.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._origin = {} if worker is None else {"worker": worker}
        self._second = -1
        self._second_text = ""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the lines; an exception keeps its traceback."""
        said = {
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._origin,
        }
        fields: dict[str, Any] = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "exception": self.formatException(record.exc_info)}
        each: Sequence[Entry] = getattr(record, "each", ((record.created, fields),))
        return "\n".join(
            _encode({"time": self._time(created), **said, **fields}) for created, fields in each
        )

    def _time(self, created: float) -> str:
        """Returns the time to the millisecond, UTC; the text of a second is made once."""
        second = int(created)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{int((created - second) * 1000):03d}+00:00"


_encode = json.JSONEncoder(ensure_ascii=False).encode
"""json.dumps makes an encoder for every call that does not want ASCII."""


LATE_S = 0.1
"""By which a line may be late."""
MOST_LINES = 1_000


class TogetherHandler(logging.Handler):
    """Writes lines together: a write for every call is a fifth of what its line costs.

    Warnings and what is worse are written at once, with all lines before them.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []
        self._is_timed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Takes the record; its line is written with the next `flush` at the latest."""
        try:
            self._lines.append(self.format(record))
            if record.levelno >= logging.WARNING or len(self._lines) >= MOST_LINES:
                self.flush()
            elif not self._is_timed:
                self._is_timed = True
                timer = threading.Timer(LATE_S, self.flush)
                timer.daemon = True
                timer.start()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Writes what there is. Python does it once more at its end."""
        with self.lock or nullcontext():
            lines, self._lines, self._is_timed = self._lines, [], False
            if lines and not self._stream.closed:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()


def log_to_stderr(level: str, *, worker: int | None = None) -> None:
    """Sends every log of the process to stderr as JSON lines, with the number of the worker."""
    handler = TogetherHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # No line tells these, and finding them out is half of what a record costs (Python's logging
    # HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = False
    logging.logProcesses = False
    logging.logMultiprocessing = False
