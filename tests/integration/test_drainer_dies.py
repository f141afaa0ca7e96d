"""The process that writes the event log is killed again and again; the log stays whole.

SHOPINTENT_LONG_TESTS=1 kills it 20 times instead of 3.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shopintent.server.event_log.erasing import erase
from shopintent.server.event_log.files import no_progress
from shopintent.server.event_log.upkeep import keep_up
from support.event_logs import CountingSource, read_log, sequences

pytestmark = pytest.mark.events

KILLS = 20 if os.environ.get("SHOPINTENT_LONG_TESTS") else 3
TESTS = Path(__file__).parents[1]


def drain(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(
        [sys.executable, "-m", "support.draining_process", str(folder)], env=environment
    )


def wait_for_more(source: CountingSource, than: int) -> None:
    ends_at = time.monotonic() + 60
    while source.logged_through <= than:
        assert time.monotonic() < ends_at, "nothing is written"
        time.sleep(0.01)


def test_kill_9_of_the_drainer_loses_no_record_and_writes_none_twice(tmp_path: Path) -> None:
    """Two processes drain; whichever is killed, the other goes on."""
    source = CountingSource(tmp_path / "logged.json")
    processes = [drain(tmp_path), drain(tmp_path)]
    try:
        for kill in range(KILLS):
            wait_for_more(source, source.logged_through)
            time.sleep(random.uniform(0, 0.3))
            victim = processes.pop(kill % 2)
            victim.kill()
            victim.wait()
            processes.append(drain(tmp_path))
        wait_for_more(source, source.logged_through)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logged = source.logged_through
    written = sequences(tmp_path / "log")
    assert written == list(range(1, len(written) + 1))
    assert len(written) >= logged > 100
    # The same holds once it is compacted, and without one of its shoppers.
    keep_up(tmp_path / "log", 10_000, time.time(), no_progress)
    assert sequences(tmp_path / "log") == written
    erase(tmp_path / "log", ["k1-3"], no_progress)
    left = [each.sequence for each in read_log(tmp_path / "log")]
    assert left == [each for each in written if each % 5 != 3]
