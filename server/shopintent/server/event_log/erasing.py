"""Deletes shoppers from a log.

What is to go is kept in a file until it is gone, so whoever works on the files next finishes what
a crash cut short: by then the logins that joined a shopper's names may be gone already.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from shopintent.artifacts.event_log import compacted, log_files, segment_lines, segments
from shopintent.server.event_log import parquet
from shopintent.server.event_log.files import (
    FILES_LOCK,
    PENDING,
    REWRITTEN,
    WRITE_LOCK,
    OnProgress,
    holding,
    make_folders,
    no_progress,
    put,
    remove,
    write_whole,
)
from shopintent.server.event_log.searching import PARQUET, logins
from shopintent.server.event_log.segments import seal


def erase(folder: Path, names: Collection[str], on_progress: OnProgress) -> int:
    """Deletes every record written so far of shoppers by their pseudonyms; returns how many.

    With them go the aliases they logged in from, and whom they were the alias of. Records that are
    written meanwhile stay: they are of whoever came after the deletion.
    """
    make_folders(folder)
    with holding(folder / FILES_LOCK):
        tidy(folder)
        paths = _closed_files(folder)
        group = joined(names, logins(paths))
        write_whole(folder / PENDING, json.dumps(sorted(group)).encode())
        n_gone = _erase_from(paths, group, on_progress)
        remove(folder / PENDING)
    return n_gone


def tidy(folder: Path) -> None:
    """Finishes what a process that died left half done; whoever calls holds FILES_LOCK."""
    for path in folder.rglob(f"{REWRITTEN}*"):
        remove(path)
    in_days = compacted(folder)
    for segment, path in segments(folder).items():
        if any(each.covers(segment) for each in in_days):
            remove(path)
    with suppress(FileNotFoundError):
        group = json.loads((folder / PENDING).read_bytes())
        _erase_from(_closed_files(folder), group, no_progress)
        remove(folder / PENDING)


def joined(names: Collection[str], logins: Iterable[tuple[str, str]]) -> set[str]:
    """Returns the names of a shopper and of all who logged in as them.

    An alias leads to whom it logged in as, and a shopper to all their aliases, but not from one of
    these on to others who used the same device: they are somebody else.
    """
    pairs = set(logins)
    shoppers = {shopper for shopper, alias in pairs if alias in names}
    known = {*names, *shoppers}
    return known | {alias for shopper, alias in pairs if shopper in known}


def _closed_files(folder: Path) -> list[Path]:
    """Returns the files that hold everything written so far and that nobody writes to any more."""
    with holding(folder / WRITE_LOCK):
        state = seal(folder)
    still_written = {
        path for each, path in segments(folder).items() if each.number > state.closed_through
    }
    return [path for path in log_files(folder) if path not in still_written]


def _erase_from(paths: Collection[Path], names: Collection[str], on_progress: OnProgress) -> int:
    n_gone = 0
    for done, path in enumerate(paths, 1):
        if path.suffix == PARQUET:
            n_gone += _erase_from_parquet(path, names)
        else:
            n_gone += _erase_from_segment(path, names)
        on_progress(done, len(paths))
    return n_gone


def _erase_from_parquet(path: Path, names: Collection[str]) -> int:
    written = path.with_name(REWRITTEN + path.name)
    n_gone, n_left = parquet.write_without(path, names, written)
    if n_gone and n_left:
        put(written, path)
    elif n_gone:
        remove(path)
    return n_gone


def _erase_from_segment(path: Path, names: Collection[str]) -> int:
    wanted = [name.encode() for name in names]
    lines = list(segment_lines(path))
    left = [line for line in lines if not any(name in line for name in wanted)]
    if left and len(left) < len(lines):
        write_whole(path, b"".join(left))
    elif lines and not left:
        remove(path)
    return len(lines) - len(left)
