"""How raw records lie in a frame on their way to events."""

from __future__ import annotations

ROW = "#row"
MALFORMED = "malformed"


def raw_name(column: str) -> str:
    """Returns what a log's column is called in the frame, apart from our own columns."""
    return f"raw:{column}"
