"""First pass of preparing: every log file becomes a Parquet file of marked canonical events."""

from __future__ import annotations

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
    path: Path
    """Parquet: the columns of clean.canonical_events, and `file`, its number."""
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
    columns = clean.columns_needed(source)
    raw = read_log(path, source.file_format, columns, folder, progress)
    rows = _counted(raw.rows, f"read {path.name}", raw.n_lines, progress)
    events = clean.canonical_events(rows, source, mapping, now)
    target = folder / "events.parquet"
    try:
        events.with_columns(pl.lit(number, pl.Int32).alias("file")).sink_parquet(target)
    except pl.exceptions.PolarsError as error:
        raise PrepareError(f"{path}: cannot be read ({error}).") from error
    return StagedFile(source, target, _file_report(name, target, raw.invalid_utf8_lines))


def _counted(rows: pl.LazyFrame, description: str, total: int, progress: Progress) -> pl.LazyFrame:
    """Returns the same rows; progress moves as they stream by."""
    done = 0

    def count(batch: pl.DataFrame) -> pl.DataFrame:
        nonlocal done
        done = min(done + len(batch), total)
        progress(description, done, total)
        return batch

    return rows.map_batches(
        count, streamable=True, predicate_pushdown=True, schema=rows.collect_schema()
    )


def _file_report(name: str, staged: Path, invalid_utf8_lines: int) -> FileReport:
    events = pl.scan_parquet(staged)
    counts: dict[str | None, int] = dict(
        events.group_by("reason").agg(pl.len()).collect().iter_rows()
    )
    unknown = (
        events.filter(pl.col("reason") == clean.UNKNOWN_EVENT_TYPE)
        .group_by(pl.col("raw_event_type").fill_null("(empty)"))
        .agg(pl.len())
        .sort(["len", "raw_event_type"], descending=[True, False])
        .head(LISTED_VALUES)
        .collect()
    )
    invalid_prices = events.select(pl.col("invalid_price").sum()).collect().item()
    warnings = {
        "prices that are no price (negative, zero, not a number, too high); taken as unknown": int(
            invalid_prices
        ),
        "lines with invalid UTF-8; the bytes were replaced": invalid_utf8_lines,
    }
    return FileReport(
        file=name,
        rows_in=sum(counts.values()),
        rows_usable=counts.get(None, 0),
        dropped={reason: counts[reason] for reason in clean.REASONS if reason in counts},
        unknown_event_types=dict(unknown.iter_rows()),
        warnings={what: n for what, n in warnings.items() if n},
    )


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
