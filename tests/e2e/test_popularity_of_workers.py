"""What is popular, as two workers count it: everything once, whichever of them dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shopintent.artifacts import ReleasesRoot
from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.snapshot_file import SnapshotFile
from support.counting import count_of
from support.server import write_small_release
from support.workers import PATIENCE_S, serving, track

pytestmark = pytest.mark.events


def counted(root: Path, product_id: str) -> float:
    """Returns how many views of a product the server wrote down."""
    popularity = Popularity()
    assert SnapshotFile(root / "state" / "popularity.json").restore(popularity)
    return count_of(popularity.popular, product_id, time.time())


@contextmanager
def killed(root: Path) -> Iterator[str]:
    """Runs the server and kills all of it, which leaves it no time to write anything."""
    with serving(root) as (address, process):
        yield address
        # Workers whose supervisor ends are told to end; these are given no time to.
        process.send_signal(signal.SIGSTOP)
        for worker in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(worker), signal.SIGKILL)
        process.kill()
        process.wait(PATIENCE_S)


def test_everything_is_counted_once_by_workers_that_stop_die_and_come_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_small_release(ReleasesRoot(root))
    with serving(root) as (address, _):
        for number in range(10):
            track(address, "", f"visitor-{number}", "p8")
    assert counted(root, "p8") == pytest.approx(10, rel=0.01)
    with killed(root) as address:
        for number in range(7):
            track(address, "", f"visitor-{number}", "p8")
    assert counted(root, "p8") == pytest.approx(10, rel=0.01)
    with serving(root) as (address, _):
        track(address, "", "visitor-1", "p9")
    assert counted(root, "p8") == pytest.approx(17, rel=0.01)
    assert counted(root, "p9") == pytest.approx(1, rel=0.01)
