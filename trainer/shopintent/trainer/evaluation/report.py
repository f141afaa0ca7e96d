"""An evaluation as files that people and programs read, and as tables on the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table as RichTable
from rich.text import Text

from shopintent.trainer.evaluation.comparison import is_ours
from shopintent.trainer.evaluation.html import page
from shopintent.trainer.evaluation.rows import write_metrics
from shopintent.trainer.evaluation.sections import Report, sections
from shopintent.trainer.evaluation.tables import Cell, Table

REPORT_FILE = "report.html"
STYLES = {"best": "bold green", "above": "green", "below": "bold red", "": ""}


def write_report(folder: Path, report: Report) -> None:
    """Writes metrics.json and report.html into the folder, which is made."""
    write_metrics(folder, report.protocol, report.rows)
    written = folder / f".{REPORT_FILE}"
    written.write_text(page(report), encoding="utf-8")
    written.replace(folder / REPORT_FILE)


def console_tables(report: Report) -> Iterator[RichTable]:
    """Yields the main tables as the console shows them; the page has all."""
    for section in sections(report):
        for part in section.parts:
            if part.main and part.table is not None:
                yield rich_table(section.title, part.table)


def rich_table(title: str, table: Table) -> RichTable:
    """Returns a table for the console."""
    shown = RichTable(title=Text(f"{title}: {table.title}"), title_justify="left")
    shown.add_column("")
    for head in table.columns:
        shown.add_column(Text(head.label), justify="right")
    for name, cells in table.lines:
        shown.add_row(Text(name, "bold" if is_ours(name) else ""), *map(rich_cell, cells))
    return shown


def rich_cell(cell: Cell) -> Text:
    """Returns a cell for the console: the note in a line of its own."""
    text = Text(cell.text, STYLES[cell.mark])
    return text.append(f"\n{cell.note}", "dim") if cell.note else text
