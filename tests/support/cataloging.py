"""Writes products to a journal until it is killed: `python -m support.cataloging FILE ROUND`.

Prints the number of every batch once it is acknowledged. A batch writes two products and deletes
the two before.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from shopintent.behavior import Product
from shopintent.server.catalog_journal import CatalogJournal


def changes(round_number: int, number: int) -> dict[str, Product | None]:
    """Returns the changes of a batch."""
    new = [f"{round_number}.{number}.{part}" for part in "ab"]
    old = [f"{round_number}.{number - 1}.{part}" for part in "ab"]
    return {**{key: Product(key, title=key) for key in new}, **dict.fromkeys(old)}


async def write(path: Path, round_number: int) -> None:
    journal = CatalogJournal.open(path)
    for number in count():
        batch = changes(round_number, number)
        seen = journal.latest()
        await journal.append(batch, seen=seen, release="r", embedded={}, timeout_s=10)
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
