"""The event log of a server: what visitors did, for the trainer to learn from.

This process only appends. Another one, which it starts for that, rewrites and searches files.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from shopintent.server.errors import StateUnavailable
from shopintent.server.event_log.files import OnProgress, no_progress

NAME = "event log"
"""In messages."""
CHILD = "shopintent.server.event_log.child"
LINE_BYTES = 1 << 20


class EventLog:
    """A log in a folder, shared by all servers of its store of sessions.

    Every method works on files in another process and may take minutes; whoever cancels it ends
    that process, and the next to work on the files finishes what it began. `on_progress(done,
    total)` counts files. All raise StateUnavailable.
    """

    def __init__(self, folder: Path, on_progress: OnProgress = no_progress) -> None:
        self.folder = folder
        self._on_progress = on_progress

    async def delete(self, pseudonyms: Collection[str]) -> int:
        """Deletes everything written of shoppers so far; returns the number of records.

        Whom they logged in as, or were before they did, goes with them.
        """
        return int(await self._work("erase", names=sorted(pseudonyms)))

    async def search(self, texts: Collection[str]) -> int:
        """Returns how often the texts occur in the files."""
        return int(await self._work("search", texts=sorted(texts)))

    async def count_by_key(self) -> dict[str, int]:
        """Returns the number of records by the id of the key that their shopper is named with."""
        return dict(await self._work("count"))

    async def keep_up(self, kept_days: int) -> int:
        """Compacts finished days and removes those past retention; returns records compacted."""
        return int(await self._work("keep-up", kept_days=kept_days))

    async def _work(self, work: str, **arguments: object) -> Any:
        # -P: what lies in the current folder must not pass for a part of the server.
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", CHILD, str(os.getpid()), str(self.folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            env={"POLARS_MAX_THREADS": str(_threads()), **os.environ},
        )
        try:
            assert child.stdin is not None
            child.stdin.write(json.dumps({"work": work, **arguments}).encode())
            child.stdin.close()
            assert child.stderr is not None
            last, said = await asyncio.gather(self._follow(child), child.stderr.read())
            status = await child.wait()
        except BaseException:
            if child.returncode is None:
                child.kill()
                await child.wait()
            raise
        if status != 0:
            why = said.decode(errors="replace").strip() or f"its helper ended with status {status}"
            raise StateUnavailable(NAME, why.splitlines()[-1])
        return json.loads(last)

    async def _follow(self, child: asyncio.subprocess.Process) -> bytes:
        """Shows progress; returns the last line, which is the result."""
        assert child.stdout is not None
        last = b"null"
        async for line in child.stdout:
            numbers = line.split()
            if len(numbers) == 2 and line[:1].isdigit():
                self._on_progress(int(numbers[0]), int(numbers[1]))
            else:
                last = line
        return last


def _threads() -> int:
    """Returns how many threads polars may take: it runs beside calls that are answered."""
    return max(1, (os.cpu_count() or 1) // 4)
