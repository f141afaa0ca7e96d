"""The process that rewrites and searches the files of a log, for one that has calls to answer.

python -m shopintent.server.event_log.child PARENT_PID FOLDER WORK

WORK is JSON on stdin, so that no list of processes shows whom it is about: {"work": "erase",
"pseudonyms": [..]}. Progress goes to stdout as lines of two numbers, the result as the last line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from shopintent.server.event_log.erasing import erase
from shopintent.server.event_log.files import EventLogError
from shopintent.server.event_log.searching import count_by_key, occurrences
from shopintent.server.event_log.upkeep import keep_up
from shopintent.server.parent import end_with

FAILED = 3
"""Exit status when the files do not let it; stderr says why."""


def main(parent: str, folder: str) -> int:
    """Does one piece of work."""
    end_with(int(parent))
    os.nice(10)  # Calls come first.
    try:
        result = _do(Path(folder), json.load(sys.stdin))
    except (EventLogError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    print(json.dumps(result), flush=True)
    return 0


def _do(folder: Path, work: dict[str, Any]) -> object:
    match work.pop("work"):
        case "erase":
            return erase(folder, on_progress=_tell, **work)
        case "search":
            return occurrences(folder, on_progress=_tell, **work)
        case "count":
            return count_by_key(folder, _tell)
        case _:
            return keep_up(folder, now=time.time(), on_progress=_tell, **work)


def _tell(done: int, total: int) -> None:
    print(done, total, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
