"""The end of the event log: every record is written once, whatever dies or fills up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shopintent.artifacts.event_log import log_files, segments
from shopintent.server.event_log.files import EventLogError, LogState, make_folders
from shopintent.server.event_log.segments import SegmentWriter, seal
from support.event_logs import impression, login, read_log, record, sequences

pytestmark = pytest.mark.events


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = [record(1), impression(2, "k1-aa"), login(3, "k1-bb", "k1-aa")]
    assert SegmentWriter(tmp_path).append(written) == 3
    assert read_log(tmp_path) == written


def test_what_is_in_the_log_is_not_written_again(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append([record(1), record(2)])
    assert writer.append([record(1), record(2), record(3)]) == 1
    assert SegmentWriter(tmp_path).append([record(2), record(3), record(4)]) == 1
    assert sequences(tmp_path) == [1, 2, 3, 4]


def test_each_source_is_numbered_for_itself(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append([record(7), record(3, source="t")])
    assert SegmentWriter(tmp_path).append([record(4, source="t"), record(7)]) == 1
    assert sequences(tmp_path, "t") == [3, 4]


def test_a_source_that_was_quiet_for_long_is_still_known(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append([record(5, source="quiet")])
    for sequence in range(1, 6):
        SegmentWriter(tmp_path, max_bytes=1).append([record(sequence)])
    for path in segments(tmp_path).values():
        path.unlink()  # As compaction and retention do.
    assert SegmentWriter(tmp_path).append([record(5, source="quiet")]) == 0


def test_a_segment_ends_by_size_and_with_its_day(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, max_bytes=1_000)
    for sequence in range(1, 9):
        writer.append([record(sequence, days_ago=1 if sequence < 7 else 0)])
    days = [each.day for each in segments(tmp_path)]
    assert days == sorted(days)
    assert days.count("2025-11-23") > 1
    assert set(days) == {"2025-11-23", "2025-11-24"}
    assert all(path.stat().st_size <= 1_000 for path in segments(tmp_path).values())
    assert sequences(tmp_path) == list(range(1, 9))


def test_records_around_midnight_keep_their_order_and_their_day(tmp_path: Path) -> None:
    mixed = [record(1, days_ago=1), record(2), record(3, days_ago=1), record(4)]
    SegmentWriter(tmp_path).append(mixed)
    assert [each.day for each in segments(tmp_path)] == ["2025-11-23"] * 2 + ["2025-11-24"] * 2
    assert sorted(sequences(tmp_path)) == [1, 2, 3, 4]


@pytest.mark.parametrize("torn", [1, 40, 2_500_000])
def test_a_torn_line_is_cut_and_its_record_written_again(tmp_path: Path, torn: int) -> None:
    SegmentWriter(tmp_path).append([record(1)])
    [path] = segments(tmp_path).values()
    with path.open("ab") as file:
        file.write(record(2).to_line()[:-1][:torn].ljust(torn, b"x"))
    assert sequences(tmp_path) == [1]
    assert SegmentWriter(tmp_path).append([record(1), record(2)]) == 1
    assert sequences(tmp_path) == [1, 2]


def test_a_segment_of_nothing_but_a_torn_line_holds_nothing(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append([record(1)])
    [path] = segments(tmp_path).values()
    path.write_bytes(record(1).to_line()[:-1])
    assert SegmentWriter(tmp_path).append([record(1)]) == 1
    assert sequences(tmp_path) == [1]


def test_nothing_is_lost_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append([record(1)])
    room = 100

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real_write(descriptor, data[:room])
        room -= written
        return written

    real_write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            writer.append([record(1), record(2), record(3)])
    assert sequences(tmp_path) == [1]
    assert writer.append([record(2), record(3)]) == 2
    assert sequences(tmp_path) == [1, 2, 3]


def test_what_the_disk_did_not_take_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append([record(1)])

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            writer.append([record(2)])
    assert sequences(tmp_path) == [1]


def test_a_writer_goes_on_behind_whoever_sealed_the_log(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append([record(1)])
    state = seal(tmp_path)
    writer.append([record(1), record(2)])
    assert [each.number for each in segments(tmp_path)] == [1, 2]
    assert state == LogState(1, {"s": 1})
    assert seal(tmp_path) == seal(tmp_path) == LogState(2, {"s": 2})


def test_a_lost_state_does_not_make_numbers_come_again(tmp_path: Path) -> None:
    """A Parquet file says which numbers it stands for: they must name nothing else."""
    SegmentWriter(tmp_path).append([record(1)])
    day = tmp_path / "days" / "2025-11-24"
    day.mkdir()
    (day / "events-0000000002-0000000009.parquet").touch()
    (tmp_path / "event-log.json").unlink()
    SegmentWriter(tmp_path).append([record(2)])
    assert [each.number for each in segments(tmp_path)] == [1, 10]


def test_a_log_of_another_version_is_refused(tmp_path: Path) -> None:
    make_folders(tmp_path)
    (tmp_path / "event-log.json").write_text('{"format_version": 2}')
    with pytest.raises(EventLogError, match="another version of the server"):
        SegmentWriter(tmp_path).append([record(1)])
    (tmp_path / "event-log.json").write_text("[")
    with pytest.raises(EventLogError, match="is damaged"):
        seal(tmp_path)


def test_other_files_in_the_folder_are_not_read(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append([record(1)])
    (tmp_path / "segments" / "notes.jsonl").write_text("{}")
    (tmp_path / "days" / "2025-11-24").mkdir()
    (tmp_path / "days" / "2025-11-24" / "events-1.parquet").touch()
    assert len(log_files(tmp_path)) == 1
