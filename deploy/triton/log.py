"""Triton's log: where it is, and what it says went wrong."""

import os
import re
import tempfile
from pathlib import Path


def log_path(given: Path | None) -> tuple[Path, bool]:
    """The log file and whether to keep it after an orderly stop."""
    if given:
        given.parent.mkdir(parents=True, exist_ok=True)
        return given, True
    handle, name = tempfile.mkstemp(prefix="shopintent-triton-", suffix=".log")
    os.close(handle)
    return Path(name), False


def reasons(log_file: Path) -> str:
    """What Triton itself says went wrong: its failures, or other errors, or else its last lines."""
    lines = log_file.read_text(errors="replace").splitlines()
    # E1122 00:22:38.051848 5949 model_lifecycle.cc:642] "failed to load 'a' version 1: why\\n..."
    matches = [
        re.match(r'E\d{4} \S+ \d+ [\w.]+:\d+\] "(.*?)(\\n\\nAt:.*)?"$', line) for line in lines
    ]
    # Without a GPU, Triton reports this one at every start.
    errors = [m[1] for m in matches if m and not m[1].startswith("CudaDriverHelper")]
    failures = [error for error in errors if error.startswith("failed to ")]
    told = "".join(f"\n  {line}" for line in failures or errors or lines[-5:])
    return f":{told}\n(the whole log is {log_file})"
