"""The numbers of an evaluation, each with the protocol it was measured by: metrics.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
METRICS_FILE = "metrics.json"
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number; what does not apply to it is None."""

    model: str
    """Ours begin with "shopintent"."""
    metric: str
    value: float
    ci: tuple[float, float] | None = None
    """The 95 % bootstrap confidence interval."""
    split: str
    """"leave-one-out" or "time"."""
    seen_filter: bool | None = None
    """Whether products of the shopper's history were kept out of the ranking."""
    k: int | None = None
    """The cut-off of a ranking."""
    prefix: str = ALL
    """How many events of the visit are known, or "all" lengths."""
    horizon: str | None = None
    """"session", "1h", "24h" or "7d"."""
    seed: int | None = None
    slice: str = ALL
    """"cold-shoppers", "warm-shoppers", "cold-products" and the like, or "all"."""
    samples: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError when a number is not finite: JSON has none such."""
        if not all(map(math.isfinite, (self.value, *(self.ci or ())))):
            raise ValueError(f"{self.metric} of {self.model} is not a finite number: {self}")

    def as_json(self) -> dict[str, Any]:
        """Returns the row as metrics.json holds it, where a prefix of k events is a number."""
        prefix: str | int = int(self.prefix) if self.prefix.isdecimal() else self.prefix
        return asdict(self) | {"prefix": prefix}


def write_metrics(folder: Path, protocol: Mapping[str, Any], rows: Sequence[Row]) -> Path:
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
