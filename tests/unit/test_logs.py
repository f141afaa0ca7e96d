"""Lines of the log: written together, soon, and before the process ends."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import time

import pytest

from shopintent.server.logs import MOST_LINES, JsonFormatter, TogetherHandler


class Counted(io.StringIO):
    """Counts how often it is written to."""

    n_writes = 0

    def write(self, text: str) -> int:
        self.n_writes += 1
        return super().write(text)


@pytest.fixture
def written() -> Counted:
    return Counted()


@pytest.fixture
def handler(written: Counted) -> TogetherHandler:
    handler = TogetherHandler(written)
    handler.setFormatter(JsonFormatter())
    return handler


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("test", level, "", 0, message, (), None)


def messages(written: io.StringIO) -> list[str]:
    return [json.loads(line)["message"] for line in written.getvalue().splitlines()]


def test_lines_are_written_together(handler: TogetherHandler, written: Counted) -> None:
    for number in range(5):
        handler.handle(record(str(number)))
    assert messages(written) == []
    handler.flush()
    handler.flush()
    assert messages(written) == ["0", "1", "2", "3", "4"]
    assert written.n_writes == 1


def test_a_warning_is_written_at_once_behind_what_came_before(
    handler: TogetherHandler, written: Counted
) -> None:
    handler.handle(record("before"))
    handler.handle(record("look", logging.WARNING))
    assert messages(written) == ["before", "look"]


def test_waiting_lines_are_bounded(handler: TogetherHandler, written: Counted) -> None:
    for number in range(MOST_LINES + 1):
        handler.handle(record(str(number)))
    assert len(messages(written)) == MOST_LINES


def test_a_record_of_several_things_is_a_line_for_each(
    handler: TogetherHandler, written: Counted
) -> None:
    several = record("call")
    several.each = [(0.25, {"code": "OK"}), (61.5, {"code": "CANCELLED"})]
    handler.handle(several)
    handler.flush()
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(each["time"], each["message"], each["code"]) for each in lines] == [
        ("1970-01-01T00:00:00.250+00:00", "call", "OK"),
        ("1970-01-01T00:01:01.500+00:00", "call", "CANCELLED"),
    ]


LOGS = """
import logging, os, sys, time
from shopintent.server.logs import log_to_stderr
log_to_stderr("info")
logging.getLogger("test").info("call")
{}
"""


def test_a_line_is_soon_there_although_nothing_follows() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOGS.format("time.sleep(60)")], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert json.loads(process.stderr.readline())["message"] == "call"
    process.kill()
    process.communicate()


def test_no_line_is_lost_at_the_end() -> None:
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", LOGS.format("")], stderr=subprocess.PIPE, text=True, check=True
    )
    assert json.loads(ended.stderr)["message"] == "call"
    assert time.monotonic() - started < 60
