"""One process at a time moves records to the log; what it cannot write waits."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shopintent.artifacts.event_log import LogRecord, compacted, segments
from shopintent.server.errors import StateUnavailable
from shopintent.server.event_log import EventLog
from shopintent.server.event_log.draining import LogDrainer
from shopintent.server.event_log.files import WRITE_LOCK, holding
from shopintent.server.event_log.segments import SegmentWriter
from support.event_logs import ListSource, NoCounts, login, read_log, record, sequences

pytestmark = pytest.mark.events


def drainer(folder: Path, source: ListSource, counts: NoCounts | None = None) -> LogDrainer:
    return LogDrainer(EventLog(folder), source, counts or NoCounts(), kept_days=10_000, poll_s=0.01)


@asynccontextmanager
async def running(drains: LogDrainer) -> AsyncIterator[None]:
    drains.start()
    try:
        yield
    finally:
        await asyncio.wait_for(drains.close(), 10)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAKE_OVER_S", "AGAIN_S"):
        monkeypatch.setattr(f"shopintent.server.event_log.draining.{name}", 0.01)


async def test_records_go_to_the_log_and_then_from_their_source(tmp_path: Path) -> None:
    source, counts = ListSource([record(1), record(2)]), NoCounts()
    async with running(drainer(tmp_path, source, counts)):
        await until(lambda: not source.held)
        source.held.append(record(3))
        await until(lambda: not source.held)
    assert sequences(tmp_path) == [1, 2, 3]
    assert counts.written == 3


async def test_a_fault_nobody_thought_of_is_told_and_does_not_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = ListSource([record(1)])
    faults = iter([ZeroDivisionError("strange")])

    class Faulty(NoCounts):
        def log_written(self, records: int) -> None:
            for fault in faults:
                raise fault

    async with running(drainer(tmp_path, source, Faulty())):
        await until(lambda: not source.held)
    assert sequences(tmp_path) == [1]
    assert "ZeroDivisionError" in caplog.text


async def test_what_came_last_is_written_when_the_server_stops(tmp_path: Path) -> None:
    source = ListSource()
    drains = LogDrainer(EventLog(tmp_path), source, NoCounts(), kept_days=10_000, poll_s=60)
    async with running(drains):
        await until(lambda: (tmp_path / ".drainer.lock").exists())
        await asyncio.sleep(0.05)
        source.held.append(record(1))
    assert sequences(tmp_path) == [1]


async def test_one_of_two_writes_and_the_other_takes_over(tmp_path: Path) -> None:
    first, second, counts = ListSource([record(1)]), ListSource(), NoCounts()
    writes, waits = drainer(tmp_path, first), drainer(tmp_path, second, counts)
    writes.start()
    await until(lambda: not first.held)
    async with running(waits):
        second.held.append(record(1, source="t"))
        await until(lambda: len(counts.waits) > 3)  # It tried, and told that others write.
        assert second.held
        assert set(counts.waits) == {0.0}
        first.held.append(record(2))
        await until(lambda: not first.held)
        await writes.close()
        await until(lambda: not second.held)
    assert sequences(tmp_path) == [1, 2]
    assert sequences(tmp_path, "t") == [1]


class Forgetful(ListSource):
    """Loses every second answer of `logged`."""

    def __init__(self, records: Sequence[LogRecord]) -> None:
        super().__init__(records)
        self.calls = 0

    async def logged(self, records: Sequence[LogRecord]) -> None:
        self.calls += 1
        if self.calls % 2:
            raise StateUnavailable("sessions", "no answer in time")
        await super().logged(records)


async def test_a_source_that_did_not_hear_it_gets_nothing_written_twice(tmp_path: Path) -> None:
    source, counts = Forgetful([record(1), record(2)]), NoCounts()
    async with running(drainer(tmp_path, source, counts)):
        await until(lambda: not source.held)
        source.held.append(record(3))
        await until(lambda: not source.held)
    assert sequences(tmp_path) == [1, 2, 3]
    assert counts.failures == 2


async def test_a_full_disk_loses_nothing_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source, counts = ListSource([record(1), record(2)]), NoCounts()

    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running(drainer(tmp_path, source, counts)):
        await until(lambda: not source.held)
        with monkeypatch.context() as no_room:
            no_room.setattr(os, "write", full)
            source.held.append(record(3))
            await until(lambda: counts.failures > 3)
            assert counts.waits[-1] > 0
        await until(lambda: not source.held)
        await until(lambda: counts.waits[-1] == 0)
    assert sequences(tmp_path) == [1, 2, 3]
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert "event log is not written: [Errno 28] No space left" in caplog.text


async def test_records_are_looked_for_when_nobody_else_writes(tmp_path: Path) -> None:
    """A deletion takes them from the source, and then has the log to itself for a moment."""
    source = ListSource()
    async with running(drainer(tmp_path, source)):
        await until(lambda: (tmp_path / WRITE_LOCK).exists())
        with holding(tmp_path / WRITE_LOCK):
            source.held.append(record(1))
            await asyncio.sleep(0.1)
            source.held.clear()
        source.held.append(record(2))
        await until(lambda: not source.held)
    assert sequences(tmp_path) == [2]


async def test_a_shopper_is_deleted_while_others_are_written(tmp_path: Path) -> None:
    source = ListSource([login(1, "k1-aa", "k1-ab"), record(2, "k1-ab"), record(3, "k1-bb")])
    async with running(drainer(tmp_path, source)):
        await until(lambda: not source.held)
        deleting = asyncio.create_task(EventLog(tmp_path).delete(["k1-aa"]))
        for sequence in range(4, 60):
            source.held.append(record(sequence, "k1-bb"))
            await asyncio.sleep(0.01)
        assert await deleting == 2
        await until(lambda: not source.held)
    assert sequences(tmp_path) == list(range(3, 60))
    assert {each.shopper for each in read_log(tmp_path)} == {"k1-bb"}


async def test_finished_days_are_compacted_meanwhile(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append([record(1, days_ago=1)])
    source = ListSource([record(2, days_ago=-10_000)])
    async with running(drainer(tmp_path, source)):
        await until(lambda: [each.number for each in segments(tmp_path)] == [2])
    assert sequences(tmp_path) == [1, 2]
    assert len(compacted(tmp_path)) == 1


def test_a_server_does_not_load_polars() -> None:
    """It takes every core, and memory: only the processes that work on files may."""
    code = "import sys, shopintent.server.app; print('polars' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=False).stdout == b"False\n"
