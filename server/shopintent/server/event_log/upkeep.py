"""Keeps a log small: finished days become Parquet files, and days past retention go.

A crash at any step leaves each record readable once: a Parquet file counts from when it has its
name, which says which segments it stands for.
"""

from __future__ import annotations

from pathlib import Path

from shopintent.artifacts.event_log import DAYS, Compacted, compacted, segments
from shopintent.artifacts.placing import sync
from shopintent.server.event_log import parquet
from shopintent.server.event_log.due import finished_days, first_kept
from shopintent.server.event_log.erasing import tidy
from shopintent.server.event_log.files import (
    FILES_LOCK,
    REWRITTEN,
    WRITE_LOCK,
    OnProgress,
    holding,
    make_folders,
    put,
    remove,
)
from shopintent.server.event_log.segments import seal


def keep_up(folder: Path, kept_days: int, now: float, on_progress: OnProgress) -> int:
    """Compacts every finished day and removes those before the newest `kept_days`.

    Returns how many records were compacted. Raises EventLogError and OSError.
    """
    make_folders(folder)
    n_records = 0
    with holding(folder / FILES_LOCK):
        tidy(folder)
        _remove_before(folder, first_kept(kept_days, now))
        finished = finished_days(folder, now)
        if finished:
            with holding(folder / WRITE_LOCK):
                seal(folder)
        for done, day in enumerate(finished, 1):
            n_records += _compact(folder, day)
            on_progress(done, len(finished))
    return n_records


def _compact(folder: Path, day: str) -> int:
    """Puts a Parquet file in the place of a day's segments, all of which were ended."""
    paths = {each: path for each, path in segments(folder).items() if each.day == day}
    numbers = [each.number for each in paths]
    target = folder / DAYS / day / Compacted(day, min(numbers), max(numbers)).name
    target.parent.mkdir(exist_ok=True, mode=0o700)
    sync(target.parent.parent)
    written = target.with_name(REWRITTEN + target.name)
    n_records = parquet.compact(list(paths.values()), written)
    if n_records:
        put(written, target)
    for path in paths.values():
        remove(path)
    return n_records


def _remove_before(folder: Path, first_day: str) -> None:
    # Segments first: a Parquet file may stand for one that a crash left.
    for segment, path in segments(folder).items():
        if segment.day < first_day:
            remove(path)
    for file, path in compacted(folder).items():
        if file.day < first_day:
            remove(path)
    for day in (folder / DAYS).iterdir():
        if day.name < first_day and not any(day.iterdir()):
            day.rmdir()
