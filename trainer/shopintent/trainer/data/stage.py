"""First pass of preparing: every log file becomes a Parquet file of marked canonical events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shopintent.trainer.data import clean
from shopintent.trainer.data.mapping import Mapping, Source
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.data.read import PrepareError, read_log
from shopintent.trainer.data.report import REMEDIES, FileReport

LISTED_VALUES = 20
"""How many unknown event types a report lists for a file, the most frequent first."""


@dataclass(frozen=True)
class StagedFile:
    """One log file after the first pass."""

    source: Source
    folder: Path
    """Parquet files, in order: the columns of clean.canonical_events and `file`, its number."""
    report: FileReport


def find_files(log: Path, mapping: Mapping) -> list[tuple[Source, Path]]:
    """Returns the files of every source, sorted by name. Raises PrepareError for one without."""
    if not log.exists():
        raise PrepareError(f"{log}: there is no such folder; give the folder of the log's files.")
    if log.is_file():
        if len(mapping.sources) > 1:
            raise PrepareError(
                f"{log}: is one file, but {mapping.origin} has {len(mapping.sources)} sources; "
                "give the folder that holds all of them."
            )
        return [(mapping.sources[0], log)]
    found: list[tuple[Source, Path]] = []
    for source in mapping.sources:
        paths = {path for glob in source.files for path in log.glob(glob) if path.is_file()}
        if not paths:
            raise PrepareError(
                f"{log}: no file matches {', '.join(source.files)}; correct `files` of the source "
                f"in {mapping.origin} or give another folder."
            )
        found.extend((source, path) for path in sorted(paths))
    return found


def stage_files(
    log: Path, mapping: Mapping, work: Path, now: int, progress: Progress
) -> list[StagedFile]:
    """Returns every file of the log, staged in the work folder.

    Raises PrepareError for a source that is empty or that mostly drops for one reason.
    """
    files = find_files(log, mapping)
    root = log.parent if log.is_file() else log
    staged: list[StagedFile] = []
    for number, (source, path) in enumerate(files):
        name = path.relative_to(root).as_posix()
        staged.append(_stage(number, source, path, name, mapping, work, now, progress))
    for source in mapping.sources:
        _check_source(log, [file.report for file in staged if file.source is source])
    return staged


def _stage(
    number: int,
    source: Source,
    path: Path,
    name: str,
    mapping: Mapping,
    work: Path,
    now: int,
    progress: Progress,
) -> StagedFile:
    folder = work / f"file-{number:05d}"
    folder.mkdir()
    reasons, unknown = Counter[str | None](), Counter[str]()
    invalid_prices = invalid_utf8_lines = 0
    columns = clean.columns_needed(source)
    for i, batch in enumerate(read_log(path, source.file_format, columns, progress)):
        try:
            events = clean.canonical_events(batch.rows, source, mapping, now).collect()
        except pl.exceptions.PolarsError as error:
            raise PrepareError(f"{path}: cannot be read ({error}).") from error
        reasons.update(_counts(events["reason"]))
        unknown.update(_unknown_event_types(events))
        invalid_prices += int(events["invalid_price"].sum())
        invalid_utf8_lines += batch.invalid_utf8_lines
        staged = events.drop("raw_event_type", "invalid_price")
        staged.with_columns(pl.lit(number, pl.Int32).alias("file")).write_parquet(
            folder / f"{i:05d}.parquet"
        )
    warnings = {
        "prices that are no price (negative, zero, not a number, too high); taken as "
        "unknown": invalid_prices,
        "lines with invalid UTF-8; the bytes were replaced": invalid_utf8_lines,
    }
    report = FileReport(
        file=name,
        rows_in=reasons.total(),
        rows_usable=reasons[None],
        dropped={reason: reasons[reason] for reason in clean.REASONS if reasons[reason]},
        unknown_event_types=dict(unknown.most_common(LISTED_VALUES)),
        warnings={what: n for what, n in warnings.items() if n},
    )
    return StagedFile(source, folder, report)


def _counts(values: pl.Series) -> dict[str | None, int]:
    return dict(values.value_counts().iter_rows())


def _unknown_event_types(events: pl.DataFrame) -> dict[str, int]:
    unknown = events.filter(pl.col("reason") == clean.UNKNOWN_EVENT_TYPE)
    return {value or "(empty)": n for value, n in _counts(unknown["raw_event_type"]).items()}


def _check_source(log: Path, files: Sequence[FileReport]) -> None:
    names = ", ".join(file.file for file in files[:3]) + (", ..." if len(files) > 3 else "")
    rows = sum(file.rows_in for file in files)
    if rows == 0:
        raise PrepareError(f"{log}: {names}: no rows; export the log again.")
    for reason in clean.REASONS:
        dropped = sum(file.dropped.get(reason, 0) for file in files)
        if reason != clean.IGNORED_EVENT_TYPE and dropped * 2 > rows:
            raise PrepareError(mostly_dropped(f"{log}: {names}", reason, dropped, rows, files))


def mostly_dropped(
    where: str, reason: str, dropped: int, rows: int, files: Sequence[FileReport]
) -> str:
    """Returns the message for a log that loses more than half of its rows for one reason."""
    values = [value for file in files for value in file.unknown_event_types]
    listed = f" Values: {', '.join(dict.fromkeys(values))}." if values else ""
    return (
        f"{where}: {dropped:,} of {rows:,} rows drop as {reason}, so the mapping does not fit; "
        f"{REMEDIES[reason]}{listed}"
    )
