"""Finished days become Parquet, old days go, and a crash leaves each record readable once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shopintent.artifacts.event_log import LogRecord, compacted, log_files, segments
from shopintent.server.event_log import parquet
from shopintent.server.event_log.due import is_due
from shopintent.server.event_log.files import EventLogError, no_progress
from shopintent.server.event_log.segments import SegmentWriter
from shopintent.server.event_log.upkeep import keep_up
from support.dying import deaths
from support.event_logs import (
    DAY_S,
    KEPT_DAYS,
    NOW,
    append_in_parts,
    impression,
    login,
    read_log,
    record,
    sequences,
)

pytestmark = pytest.mark.events


def test_a_finished_day_becomes_one_compressed_file_with_the_same_records(tmp_path: Path) -> None:
    append_in_parts(tmp_path)
    before = read_log(tmp_path)
    n_records = keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    assert n_records == 24
    assert [each.day for each in compacted(tmp_path)] == ["2025-11-22", "2025-11-23"]
    assert {each.day for each in segments(tmp_path)} == {"2025-11-24"}
    assert read_log(tmp_path) == before
    assert not is_due(tmp_path, KEPT_DAYS, NOW)


def test_every_field_survives_compaction(tmp_path: Path) -> None:
    records = [
        impression(1, "k1-aa", days_ago=1),
        login(2, "k1-aa", "k1-ab", days_ago=1),
        LogRecord("s", 3, NOW - DAY_S, "k1-aa", "search", 5, search_query="x\ty\u2028", quantity=2),
    ]
    SegmentWriter(tmp_path).append(records)
    keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    [path] = log_files(tmp_path)
    assert path.suffix == ".parquet"
    assert read_log(tmp_path) == records


def test_the_day_just_ended_waits_for_late_records(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append([record(1)])
    midnight = NOW + 8 * 3600
    assert not is_due(tmp_path, KEPT_DAYS, midnight + 500)
    assert is_due(tmp_path, KEPT_DAYS, midnight + 700)


def test_records_that_come_late_get_a_file_of_their_own(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append([record(1, days_ago=1)])
    keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    writer.append([record(1, days_ago=1), record(2, days_ago=1)])
    keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    assert [(each.first, each.last) for each in compacted(tmp_path)] == [(1, 1), (2, 2)]
    assert sequences(tmp_path) == [1, 2]


def test_retention_removes_whole_days(tmp_path: Path) -> None:
    for sequence, days_ago in ((1, 9), (2, 8), (3, 7), (4, 0)):
        SegmentWriter(tmp_path).append([record(sequence, days_ago=days_ago)])
        keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    SegmentWriter(tmp_path).append([record(5, days_ago=9)])
    assert is_due(tmp_path, 7, NOW)
    keep_up(tmp_path, 7, NOW, no_progress)
    assert sequences(tmp_path) == [3, 4]
    assert sorted(path.name for path in (tmp_path / "days").iterdir()) == ["2025-11-17"]


def test_a_damaged_segment_is_told_of_and_not_lost(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append([record(1, days_ago=1)])
    [path] = segments(tmp_path).values()
    path.write_bytes(b"\0\0\n" + path.read_bytes())
    with pytest.raises(EventLogError, match=r"2025-11-23-0000000001\.jsonl"):
        keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    assert path.exists()


def test_kill_9_at_any_operation_of_compaction_leaves_each_record_readable_once(
    tmp_path: Path,
) -> None:
    log, template = tmp_path / "log", tmp_path / "template"
    append_in_parts(template, days=(100, 1, 0))
    kept = [each.sequence for each in read_log(template)][12:]
    shutil.copytree(template, log)
    n_deaths = n_half_done = 0
    for _ in deaths(tmp_path, "keep up"):
        n_deaths += 1
        n_half_done += bool(compacted(log)) and len(segments(log)) > 2
        assert sequences(log)[-24:] == kept  # What is too old may be there still.
        # Whoever works on it next finishes the work.
        keep_up(log, KEPT_DAYS, NOW, no_progress)
        assert sequences(log) == kept
        assert not list(log.rglob(".rewritten-*"))
        shutil.rmtree(log)
        shutil.copytree(template, log)
    assert n_deaths > 15
    assert n_half_done > 1
    assert sequences(log) == kept


def test_kill_9_at_any_operation_of_appending_writes_each_record_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    n_deaths = 0
    for _ in deaths(tmp_path, "append"):
        n_deaths += 1
        written = sequences(log)
        assert written == list(range(1, len(written) + 1))
        shutil.rmtree(log, ignore_errors=True)
    assert n_deaths > 20
    assert sequences(log) == list(range(1, 25))


def test_what_is_compacted_is_smaller(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append([record(each, days_ago=1) for each in range(1, 2_000)])
    [segment] = segments(tmp_path).values()
    size = segment.stat().st_size
    keep_up(tmp_path, KEPT_DAYS, NOW, no_progress)
    [path] = compacted(tmp_path).values()
    assert path.stat().st_size < size / 5
    assert parquet.count(path) == 1_999
