"""Which code is running: the package's version and, from a checkout, its commit."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from shopintent.artifacts.manifest import CodeVersion


def code_version() -> CodeVersion:
    """Returns the version of the running code."""
    return CodeVersion(version("shopintent"), commit_of(Path(__file__)))


def commit_of(file: Path) -> str | None:
    """Returns the commit of a file's checkout, None for one that is not in git.

    Tracked files that differ from the commit are told by "+changes".
    """
    # An installed package may lie in somebody else's checkout.
    if git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    commit = git(file.parent, "rev-parse", "HEAD")
    changes = git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return commit if commit is None or not changes else f"{commit}+changes"


def git(folder: Path, *arguments: str) -> str | None:
    """Returns what git says, None where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
