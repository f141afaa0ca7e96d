"""What preparing a log kept, dropped and noticed; as JSON for programs and Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping as MappingType
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shopintent.trainer.data import clean
from shopintent.trainer.data.prepared import REPORT_FILE, REPORT_TEXT_FILE

REMEDIES = {
    clean.MALFORMED_LINE: "lines have another number of fields than the header, or are no JSON "
    "object: check delimiter, quote, column_names and format.",
    clean.MISSING_SHOPPER: "check columns.shopper_id and cleaning.anonymous_shopper_ids.",
    clean.UNREADABLE_TIME: "check columns.event_time and time.unit.",
    clean.TIME_OUT_OF_RANGE: 'check time.unit (milliseconds need "ms"), cleaning.earliest and '
    "cleaning.latest.",
    clean.UNKNOWN_EVENT_TYPE: 'name these values in [event_types], as "ignore" if they should be '
    "left out.",
    clean.MISSING_PRODUCT: "check columns.product_id.",
    clean.INVALID_QUANTITY: "check columns.quantity; returns are written as negative quantities in "
    "some logs and are no purchases.",
    clean.DUPLICATE: 'the log repeats events; set cleaning.duplicates = "keep" if they are real.',
    clean.BOT: "check cleaning.max_events_per_day, max_events_per_minute and bot_minutes.",
}


@dataclass(frozen=True)
class FileReport:
    """One file: its rows, what is kept of them before duplicates and bots, and what is not."""

    file: str
    rows_in: int
    rows_usable: int
    dropped: dict[str, int]
    unknown_event_types: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All files together. rows_in == rows_out + sum of dropped."""

    rows_in: int
    rows_out: int
    dropped: dict[str, int]
    """Every reason of clean.REASONS."""
    files: tuple[FileReport, ...]
    warnings: tuple[str, ...]
    event_types: dict[str, int]
    outcomes: dict[str, int]
    apart: dict[str, int] = field(default_factory=dict)
    """Of an event log, records that are no behavior; they are no rows."""

    def save(self, folder: Path) -> None:
        """Writes report.json and report.md."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
        (folder / REPORT_TEXT_FILE).write_text(as_markdown(self), encoding="utf-8")


def as_markdown(report: Report) -> str:
    """Returns the report for people."""
    parts = [
        "# What was prepared\n",
        f"{report.rows_in:,} rows in, {report.rows_out:,} events out.\n",
        "## Dropped\n",
        _counts("reason", {k: n for k, n in report.dropped.items() if n}),
        "## Kept\n",
        _counts("event type", report.event_types),
        _counts("session outcome", report.outcomes),
        *(["## Counted apart\n", _counts("what", report.apart)] if report.apart else []),
        "## Files\n",
        "| file | rows | usable | dropped |\n| --- | ---: | ---: | --- |\n"
        + "".join(_file_line(file) for file in report.files),
    ]
    if report.warnings:
        parts += ["## Warnings\n", "".join(f"- {warning}\n" for warning in report.warnings)]
    return "\n".join(parts)


def _file_line(file: FileReport) -> str:
    dropped = ", ".join(f"{reason} {n:,}" for reason, n in file.dropped.items())
    return f"| {file.file} | {file.rows_in:,} | {file.rows_usable:,} | {dropped or '-'} |\n"


def _counts(name: str, counts: MappingType[str, int]) -> str:
    if not counts:
        return "Nothing.\n"
    lines = "".join(f"| {key} | {n:,} |\n" for key, n in counts.items())
    return f"| {name} | rows |\n| --- | ---: |\n{lines}"
