"""Which days of a log are finished, which are kept, and so whether there is work on its files."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from shopintent.artifacts.event_log import compacted, segments
from shopintent.server.event_log.files import PENDING, day_of

LATE_S = 600.0
"""So long after its end a day counts as finished; what comes later gets a file of its own."""


def is_due(folder: Path, kept_days: int, now: float) -> bool:
    """Returns whether there is anything to compact, to remove or to finish."""
    days = {each.day for each in segments(folder)} | {each.day for each in compacted(folder)}
    too_old = any(day < first_kept(kept_days, now) for day in days)
    return too_old or bool(finished_days(folder, now)) or (folder / PENDING).exists()


def finished_days(folder: Path, now: float) -> list[str]:
    """Returns the finished days that have segments, the oldest first."""
    return sorted({each.day for each in segments(folder) if each.day < day_of(now - LATE_S)})


def first_kept(kept_days: int, now: float) -> str:
    """Returns the oldest day that is kept: today and the `kept_days` before it are."""
    return (date.fromisoformat(day_of(now)) - timedelta(days=kept_days)).isoformat()
