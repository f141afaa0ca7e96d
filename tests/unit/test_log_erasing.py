"""Nothing of a deleted shopper is left in the log, and everything of all others is."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from shopintent.artifacts.event_log import LogRecord
from shopintent.server.errors import StateUnavailable
from shopintent.server.event_log import EventLog
from shopintent.server.event_log.erasing import erase, joined, tidy
from shopintent.server.event_log.files import FILES_LOCK, holding, no_progress
from shopintent.server.event_log.searching import count_by_key, occurrences
from shopintent.server.event_log.segments import SegmentWriter
from shopintent.server.event_log.upkeep import keep_up
from support.dying import deaths
from support.event_logs import (
    KEPT_DAYS,
    NOW,
    append_in_parts,
    bytes_of,
    login,
    read_log,
    record,
    sequences,
)

pytestmark = pytest.mark.events


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of three days, two of which are Parquet files."""
    append_in_parts(tmp_path)
    keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    return tmp_path


def of_others(log: Path) -> list[LogRecord]:
    return [each for each in read_log(log) if each.shopper.startswith("k1-b")]


@pytest.mark.parametrize("name", ["k1-aa", "k1-ab"])
def test_a_shopper_goes_with_their_alias_whichever_is_named(log: Path, name: str) -> None:
    others = of_others(log)
    assert erase(log, [name], no_progress) == 18
    assert read_log(log) == others
    assert len(others) == 18
    content = bytes_of(log)
    assert b"k1-aa" not in content
    assert b"k1-ab" not in content
    assert erase(log, [name], no_progress) == 0


def test_files_that_hold_nobody_of_them_are_not_touched(log: Path) -> None:
    SegmentWriter(log).append([record(99, "k1-cc")])
    before = {path: path.stat().st_mtime_ns for path in log.rglob("*.parquet")}
    assert erase(log, ["k1-cc"], no_progress) == 1
    assert {path: path.stat().st_mtime_ns for path in log.rglob("*.parquet")} == before
    assert b"k1-cc" not in bytes_of(log)


def test_nothing_is_left_of_a_file_of_one_shopper(tmp_path: Path) -> None:
    for sequence, days_ago in ((1, 1), (2, 0)):
        SegmentWriter(tmp_path).append([record(sequence, days_ago=days_ago)])
        keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    assert erase(tmp_path, ["k1-aa"], no_progress) == 2
    assert read_log(tmp_path) == []
    SegmentWriter(tmp_path).append([record(1), record(2), record(3, "k1-bb")])
    assert sequences(tmp_path) == [3]


def test_what_comes_after_a_deletion_is_of_somebody_new(log: Path) -> None:
    writer = SegmentWriter(log)
    writer.append([record(100, "k1-aa")])
    erase(log, ["k1-aa"], no_progress)
    writer.append([record(100, "k1-aa"), record(101, "k1-aa")])
    assert [each.sequence for each in read_log(log) if each.shopper == "k1-aa"] == [101]


def test_logins_join_a_shopper_with_their_devices_but_not_with_who_else_used_them() -> None:
    logins = [("ann", "phone"), ("ann", "tablet"), ("bob", "tablet"), ("bob", "laptop")]
    assert joined(["ann"], logins) == {"ann", "phone", "tablet"}
    assert joined(["phone"], logins) == {"phone", "ann", "tablet"}
    assert joined(["tablet"], logins) == {"tablet", "ann", "phone", "bob", "laptop"}
    assert joined(["eve"], logins) == {"eve"}


def test_kill_9_at_any_operation_of_a_deletion_keeps_the_others_and_it_is_finished(
    tmp_path: Path,
) -> None:
    log, template = tmp_path / "log", tmp_path / "template"
    append_in_parts(template)
    keep_up(template, KEPT_DAYS, NOW, no_progress)
    SegmentWriter(template).append([login(900, "k1-aa", "k1-ac"), record(901, "k1-ac")])
    others = of_others(template)
    shutil.copytree(template, log)
    n_deaths = n_begun = 0
    for _ in deaths(tmp_path, "erase"):
        n_deaths += 1
        assert of_others(log) == others
        begun = (log / "deletion.json").exists()
        if begun:
            n_begun += 1
            with holding(log / FILES_LOCK):
                tidy(log)
        else:
            erase(log, ["k1-aa"], no_progress)
        content = bytes_of(log)
        assert not any(name in content for name in (b"k1-aa", b"k1-ab", b"k1-ac"))
        assert of_others(log) == others
        shutil.rmtree(log)
        shutil.copytree(template, log)
    assert n_begun > 5
    assert n_deaths > n_begun + 5
    assert read_log(log) == others


def test_bytes_are_searched_in_segments_and_within_compressed_pages(log: Path) -> None:
    assert occurrences(log, ["k1-aa"], no_progress) >= 18
    assert occurrences(log, ['réd "shoes"'], no_progress) >= 6
    assert occurrences(log, ["k1-zz"], no_progress) == 0
    (log / "days" / "left-behind").write_text("x k1-zz")
    assert occurrences(log, ["k1-zz", "k1-yy"], no_progress) == 1


def test_records_are_counted_by_key(log: Path) -> None:
    SegmentWriter(log).append([record(99, "k2-cc")])
    assert count_by_key(log, no_progress) == {"k1": 36, "k2": 1}


async def test_another_process_does_the_work_and_tells_how_far_it_is(log: Path) -> None:
    told: list[tuple[int, int]] = []
    event_log = EventLog(log, on_progress=lambda done, total: told.append((done, total)))
    assert await event_log.count_by_key() == {"k1": 36}
    assert await event_log.search(["k1-aa"]) > 0
    assert await event_log.delete(["k1-aa"]) == 18
    assert told[-1] == (4, 4)
    assert await event_log.search(["k1-aa", "k1-ab"]) == 0


async def test_why_a_log_cannot_be_used_is_told(log: Path) -> None:
    (log / "event-log.json").write_text('{"format_version": 7}')
    with pytest.raises(StateUnavailable, match=r"event log could not be used: .*its format is 7"):
        await EventLog(log).delete(["k1-aa"])


async def test_a_canceled_deletion_ends_its_process(log: Path) -> None:
    with holding(log / FILES_LOCK):
        deleting = asyncio.create_task(EventLog(log).delete(["k1-aa"]))
        await asyncio.sleep(0.3)
        deleting.cancel()
        await asyncio.gather(deleting, return_exceptions=True)
    assert await EventLog(log).search(["k1-aa"]) > 0
