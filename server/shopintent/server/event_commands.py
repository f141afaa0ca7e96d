"""What `shopintent-server events` does: it works on the files of the log and its keys."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shopintent.artifacts.event_log import compacted, segments
from shopintent.server.config import Config, event_log_folder, pseudonym_keys_file
from shopintent.server.errors import ShopIntentError
from shopintent.server.event_log import EventLog
from shopintent.server.event_log.files import DRAINER_LOCK, EventLogError, try_lock
from shopintent.server.keyring_file import KeyringError, read_keyring, retire, rotate
from shopintent.server.release_tables import columns


@dataclass
class Day:
    """What a day has in the log."""

    segments: int = 0
    segment_bytes: int = 0
    parquet_files: int = 0
    parquet_bytes: int = 0


def run_events(parsed: argparse.Namespace, config: Config) -> int:
    """Runs one of the commands and returns its exit code, 1 for what was refused or failed."""
    try:
        told, data = asyncio.run(_run(parsed, config))
    except (EventLogError, KeyringError, ShopIntentError, OSError) as error:
        print(f"shopintent-server: {error}", file=sys.stderr)
        return 1
    print(json.dumps(data, indent=2) if parsed.json else told)
    return 0


async def _run(parsed: argparse.Namespace, config: Config) -> tuple[str, Any]:
    """Returns what to print for people, and the same for programs."""
    folder, keys = event_log_folder(config), pseudonym_keys_file(config)
    if parsed.verb == "rotate-key":
        key_id = rotate(keys)
        told = f"shoppers are named with {key_id} from now on; running servers follow in 2 seconds"
        return told, {"key_id": key_id}
    if not folder.is_dir():
        raise EventLogError(
            f"there is no event log in {folder}: name it with --event-log, or the --releases or "
            "--state-path that the server was started with"
        )
    log = EventLog(folder, on_progress=show_progress)
    match parsed.verb:
        case "compact":
            if config.event_log_days == 0:
                raise EventLogError("event_log_days is 0, so every day but today would be removed")
            n_records = await log.keep_up(config.event_log_days)
            return f"{n_records:,} records were compacted", {"compacted_records": n_records}
        case "retire-key":
            records = await log.count_by_key()
            retire(keys, parsed.key_id, records.get(parsed.key_id, 0))
            return f"{parsed.key_id} is retired", {"retired": parsed.key_id}
        case _:
            return await _status(log, keys)


async def _status(log: EventLog, keys: Path) -> tuple[str, Any]:
    records = await log.count_by_key()
    key_ids = _key_ids(keys)
    days = _days(log.folder)
    written = _is_written(log.folder)
    total = sum(each.segment_bytes + each.parquet_bytes for each in days.values())
    rows = [
        (day, str(each.segments), _size(each.segment_bytes), str(each.parquet_files),
         _size(each.parquet_bytes))
        for day, each in days.items()
    ]  # fmt: skip
    header = ("DAY", "SEGMENTS", "SIZE", "PARQUET FILES", "SIZE")
    told = [
        f"{log.folder}: {sum(records.values()):,} records, {_size(total)}; "
        + ("a server writes to it" if written else "no server writes to it now"),
        "",
        *columns([header, *rows]),
        "",
        *columns([("KEY", "RECORDS"), *_key_rows(key_ids, records)]),
    ]
    data = {
        "folder": str(log.folder),
        "written": written,
        "records": sum(records.values()),
        "days": {day: asdict(each) for day, each in days.items()},
        "keys": key_ids,
        "records_by_key": records,
    }
    return "\n".join(told), data


def _key_ids(keys: Path) -> list[str]:
    return [key.key_id for key in read_keyring(keys).keys] if keys.exists() else []


def _key_rows(key_ids: list[str], records: Mapping[str, int]) -> list[tuple[str, str]]:
    """Returns the keys, the newest first, and those that records have and the ring has not."""
    lost = sorted(records.keys() - set(key_ids))
    return [
        *((key_id, f"{records.get(key_id, 0):,}") for key_id in key_ids),
        *((f"{key_id} (not in the ring)", f"{records[key_id]:,}") for key_id in lost),
    ]


def _days(folder: Path) -> dict[str, Day]:
    days: defaultdict[str, Day] = defaultdict(Day)
    for segment, path in segments(folder).items():
        days[segment.day].segments += 1
        days[segment.day].segment_bytes += path.stat().st_size
    for file, path in compacted(folder).items():
        days[file.day].parquet_files += 1
        days[file.day].parquet_bytes += path.stat().st_size
    return dict(sorted(days.items()))


def _is_written(folder: Path) -> bool:
    lock = try_lock(folder / DRAINER_LOCK)
    if lock is not None:
        lock.close()
    return lock is None


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def show_progress(done: int, total: int) -> None:
    """Shows how many files are done, where somebody looks."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\rfiles: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)
