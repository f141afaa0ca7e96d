"""The numbers of an evaluation, each with the protocol it was measured by: metrics.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shopintent.artifacts.metrics import MetricRow

FORMAT_VERSION = 1
METRICS_FILE = "metrics.json"


def write_metrics(folder: Path, protocol: Mapping[str, Any], rows: Sequence[MetricRow]) -> Path:
    """Writes metrics.json into the folder, which is made; a reader never sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format_version": FORMAT_VERSION,
        "protocol": dict(protocol),
        "rows": [row.as_json() for row in rows],
    }
    written = folder / f".{METRICS_FILE}"
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    written.write_text(text + "\n", encoding="utf-8")
    return written.replace(folder / METRICS_FILE)


def horizon_name(seconds: int) -> str:
    """Returns "7d", "24h", "30m" and the like; only whole weeks are told in days."""
    for unit, size in (("d", 604_800), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // (86_400 if unit == 'd' else size)}{unit}"
    return f"{seconds}s"
