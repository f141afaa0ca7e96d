"""The ready file: tells whoever waits for it that the server listens, and where."""

from __future__ import annotations

import json
from pathlib import Path


def write_ready_file(path: Path, address: str, release_id: str, metrics_address: str = "") -> None:
    """Writes it whole or not at all; `metrics_address` is empty where no metrics are served."""
    told = {"address": address, "release_id": release_id, "metrics_address": metrics_address}
    written = path.with_name(path.name + ".part")
    written.write_text(json.dumps(told) + "\n", encoding="utf-8")
    written.replace(path)
