"""Where the data of the benchmarks lies. Their licences forbid to ship it."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SHOPINTENT_BENCHMARK_DATA"
DEFAULT = "../shared/data"


class BenchmarkError(ValueError):
    """A benchmark cannot run; the message says what is missing."""


def source(name: str) -> Path:
    """Returns the folder of a data set. Raises BenchmarkError when it is not there."""
    folder = Path(os.environ.get(VARIABLE, DEFAULT)) / name
    if not folder.is_dir():
        raise BenchmarkError(
            f"the data set {name} is not in {folder.parent}: set {VARIABLE} to the folder that "
            f"holds {name}/"
        )
    return folder
