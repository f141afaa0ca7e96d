"""A process that drains a source that never ends into a log, until it is killed.

python -m support.draining_process FOLDER, which holds "log" and what was logged so far.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from shopintent.server.event_log import EventLog
from shopintent.server.event_log.draining import LogDrainer
from support.event_logs import CountingSource, NoCounts


async def main(folder: Path) -> None:
    """Drains, with a new segment every so often."""
    source = CountingSource(folder / "logged.json", random.randint(1, 200))
    drainer = LogDrainer(EventLog(folder / "log"), source, NoCounts(), kept_days=10_000, poll_s=0.0)
    drainer.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
