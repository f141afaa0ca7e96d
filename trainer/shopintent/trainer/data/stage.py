"""First pass of preparing: every log file becomes a Parquet file of marked canonical events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shopintent.trainer.data import clean
from shopintent.trainer.data.columns import raw_name
from shopintent.trainer.data.joins import Joined, columns_to_read, load_joins, with_joins
from shopintent.trainer.data.mapping import Mapping, Source
from shopintent.trainer.data.progress import Progress, silent
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


@dataclass(frozen=True)
class Stage:
    """What staging every file has in common."""

    root: Path
    mapping: Mapping
    work: Path
    now: int
    """Unix seconds; later events are in the future."""
    progress: Progress


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
        paths -= {path for glob in mapping.side_files for path in log.glob(glob)}
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
    stage = Stage(root, mapping, work, now, progress)
    staged: list[StagedFile] = []
    for source in mapping.sources:
        joins = load_joins(root, source.joins, mapping.missing_values, progress)
        own = [(number, path) for number, (each, path) in enumerate(files) if each is source]
        reports = [_stage(number, path, source, joins, stage) for number, path in own]
        _check_source(log, [file.report for file in reports], own[0][1], source, joins)
        staged += reports
    return staged


def _stage(
    number: int, path: Path, source: Source, joins: list[Joined], stage: Stage
) -> StagedFile:
    folder = stage.work / f"file-{number:05d}"
    folder.mkdir()
    reasons, unknown = Counter[str | None](), Counter[str]()
    invalid_prices = invalid_utf8_lines = 0
    columns = columns_to_read(clean.columns_needed(source), source.joins)
    for i, batch in enumerate(read_log(path, source.file_format, columns, stage.progress)):
        try:
            rows = with_joins(batch.rows, joins, stage.mapping.missing_values)
            events = clean.canonical_events(rows, source, stage.mapping, stage.now).collect()
        except pl.exceptions.PolarsError as error:
            raise PrepareError(f"{path}: cannot be read ({error}).") from error
        if not source.columns.event_time:
            # The order of rows is all there is, so files follow each other.
            events = events.with_columns(pl.col("event_time") + (number << 40))
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
        file=path.relative_to(stage.root).as_posix(),
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


def _check_source(
    log: Path, files: Sequence[FileReport], first: Path, source: Source, joins: list[Joined]
) -> None:
    names = ", ".join(file.file for file in files[:3]) + (", ..." if len(files) > 3 else "")
    rows = sum(file.rows_in for file in files)
    if rows == 0:
        raise PrepareError(f"{log}: {names}: no rows; export the log again.")
    for reason in clean.REASONS:
        dropped = sum(file.dropped.get(reason, 0) for file in files)
        if reason != clean.IGNORED_EVENT_TYPE and dropped * 2 > rows:
            message = mostly_dropped(f"{log}: {names}", reason, dropped, rows, files)
            raise PrepareError(f"{message}{_first_values(first, source, joins, reason)}")


def _first_values(path: Path, source: Source, joins: list[Joined], reason: str) -> str:
    """Returns what the columns behind a reason hold in the first rows of a file, as a sentence."""
    asked = {
        clean.MISSING_SHOPPER: source.columns.shopper_id,
        clean.UNREADABLE_TIME: source.columns.event_time,
        clean.TIME_OUT_OF_RANGE: source.columns.event_time,
        clean.MISSING_PRODUCT: source.columns.product_id,
        clean.INVALID_QUANTITY: (source.columns.quantity,),
    }
    columns = [column for column in asked.get(reason, ()) if column]
    if not columns:
        return ""
    wanted = columns_to_read(columns, source.joins)
    batch = next(read_log(path, source.file_format, wanted, silent))
    rows = with_joins(batch.rows, joins, ()).head(3).collect()
    shown = [
        f'"{column}" holds {", ".join(map(repr, rows[raw_name(column)].to_list()))}'
        for column in columns
    ]
    return f" Column {'; '.join(shown)}."


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
