"""The main tables of a report as Markdown, for a page of results that is kept with the code."""

from __future__ import annotations

from pathlib import Path

from shopintent.trainer.evaluation.sections import Report, sections
from shopintent.trainer.evaluation.tables import Cell, Table

TABLES_FILE = "tables.md"


def write_tables(folder: Path, report: Report) -> None:
    """Writes the main tables into the folder."""
    written = folder / f".{TABLES_FILE}"
    written.write_text(main_tables(report), encoding="utf-8")
    written.replace(folder / TABLES_FILE)


def main_tables(report: Report) -> str:
    """Returns the tables that the console shows too, the best of each column in bold."""
    lines = []
    for section in sections(report):
        tables = [part.table for part in section.parts if part.main and part.table is not None]
        if tables:
            lines += [f"### {section.title}", "", section.text, ""]
        for table in tables:
            lines += [f"**{table.title}**", "", *markdown(table), ""]
    return "\n".join(lines)


def markdown(table: Table) -> list[str]:
    """Returns the lines of a table."""
    head = ["", *(column.label for column in table.columns)]
    return [
        row(head),
        row(["---", *["--:"] * len(table.columns)]),
        *(row([name, *map(cell, cells)]) for name, cells in table.lines),
    ]


def row(values: list[str]) -> str:
    """Returns one line; a bar in a value does not end it."""
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"


def cell(value: Cell) -> str:
    """Returns the value, bold where it is the best, with what stands beside it."""
    text = f"**{value.text}**" if value.mark in ("best", "above") else value.text
    return f"{text} ({value.note})" if value.note else text
