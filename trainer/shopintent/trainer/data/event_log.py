"""Prepares what servers logged: the folder of their event log, or the streams of their Redis."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from shopintent.artifacts.event_log import LOG_FILE, PRODUCTS_FILE, log_files
from shopintent.artifacts.products import product_from_json
from shopintent.trainer.data.event_records import write_behavior
from shopintent.trainer.data.mapping_file import load_mapping
from shopintent.trainer.data.prepare import prepare
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.products import known_products
from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.data.read import PrepareError

EVENTS = "events"
"""The name of the mapping of an event log."""
REDIS_URLS = ("redis://", "rediss://", "unix://")
TRIES = 5


def prepare_events(
    log: str,
    out: Path,
    progress: Progress = silent,
    *,
    earlier: Dataset | None = None,
    now: int | None = None,
) -> Dataset:
    """Prepares an event log, a folder or a Redis URL, into the dataset folder `out`.

    Products are those of the log's events, those that the shop wrote to the servers since their
    release, and those of an `earlier` dataset. Servers may go on writing. Raises PrepareError.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-log-", dir=out.parent) as folder:
        work = Path(folder)
        if is_redis(log):
            tables = []
            behavior, apart = _behavior_in_redis(log, work, progress)
        else:
            tables = [_catalog(_checked(Path(log)))]
            behavior, apart = _behavior_in_files(Path(log), work, progress)
        if not any(behavior.rglob("*.parquet")):
            counted = ", ".join(f"{n:,} {what}" for what, n in apart.items())
            raise PrepareError(f"The event log holds no behavior yet: {counted}; prepare it later.")
        if earlier is not None:
            tables.append(earlier.product_table().collect())
        return prepare(
            behavior, load_mapping(EVENTS), out, progress, now=now, known=tables, apart=apart
        )


def is_redis(log: str) -> bool:
    """Returns whether a log is named by the URL of a Redis."""
    return log.startswith(REDIS_URLS)


def _behavior_in_redis(url: str, work: Path, progress: Progress) -> tuple[Path, dict[str, int]]:
    from shopintent.trainer.data.redis_streams import fetch  # redis-py is for this alone.

    tried, out = work / "tried", work / "behavior"
    tried.mkdir()
    out.mkdir()
    named = [(path.stem, path) for path in fetch(url, work / "streams", progress)]
    return out, write_behavior(named, tried, out, progress)


def _behavior_in_files(root: Path, work: Path, progress: Progress) -> tuple[Path, dict[str, int]]:
    """Returns the folder of a log's behavior, and what is counted apart.

    A file that servers replaced while it was read makes us begin again.
    """
    for number in range(TRIES):
        files = log_files(root)
        tried, out = work / f"try-{number}", work / f"behavior-{number}"
        tried.mkdir()
        out.mkdir()
        named = [(path.relative_to(root).with_suffix("").as_posix(), path) for path in files]
        try:
            return out, write_behavior(named, tried, out, progress)
        except (PrepareError, FileNotFoundError):
            if all(path.exists() for path in files):
                raise
    raise PrepareError(f"{root}: its files change faster than they are read; copy it first.")


def _checked(root: Path) -> Path:
    """Returns the folder of a log. Raises PrepareError for any other."""
    if not (root / LOG_FILE).is_file():
        raise PrepareError(
            f"{root}: is no event log, for it has no {LOG_FILE}; give the folder that servers "
            f"name `event_log`, by default event-log in their state folder."
        )
    return root


def _catalog(root: Path) -> pl.DataFrame:
    path = root / PRODUCTS_FILE
    if not path.is_file():
        return known_products([])
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            return known_products([product_from_json(json.loads(line)) for line in lines])
    except (ValueError, KeyError) as error:
        raise PrepareError(f"{path}: holds a line that is no product ({error!r}).") from error
