"""The products that the catalog changed, beside the records, so that training knows new ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from shopintent.artifacts.event_log import PRODUCTS_FILE
from shopintent.artifacts.products import product_to_json
from shopintent.server.catalog_journal import CatalogJournal
from shopintent.server.event_log.files import write_whole

AT_ONCE = 500
"""Products between which calls are answered."""


class ProductsFile:
    """The file, which follows a catalog journal."""

    def __init__(self, journal: CatalogJournal, folder: Path) -> None:
        self._journal = journal
        self._path = folder / PRODUCTS_FILE
        self._position = 0

    async def write(self) -> None:
        """Writes the newest state of every product that was written, if any changed since.

        Products that were deleted are left out. Raises StateUnavailable and OSError.
        """
        latest = self._journal.latest()
        if latest == self._position:
            return
        lines: dict[str, str] = {}
        position = 0
        while changes := self._journal.tail(position, AT_ONCE):
            position = changes[-1].position
            for each in changes:
                lines.pop(each.product_id, None)
                if each.product is not None:
                    fields = product_to_json(each.product)
                    lines[each.product_id] = json.dumps(fields, ensure_ascii=False) + "\n"
            await asyncio.sleep(0)
        await asyncio.to_thread(write_whole, self._path, "".join(lines.values()).encode(), ".part-")
        self._position = position
