"""The catalog journal: every product that was written or deleted since a release was published.

It is the truth of what the shop says of its products. Each process applies it to the index of each
release it has open, in order, so that all come to hold the same and a release that is promoted
later holds it too. Of every product only the newest change is kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from shopintent.artifacts import IndexedProduct, Manifest
from shopintent.artifacts.products import product_from_json, product_to_json
from shopintent.behavior import Product
from shopintent.server.state import Database

T = TypeVar("T")

KEPT_RELEASES = 4
"""Releases whose embeddings are kept. Those of older ones are made again if one is opened."""

# Positions begin at the microsecond the file was made: an index that holds changes of a journal
# that was lost is behind every change of the next one.
SCHEMA = """
CREATE TABLE change (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id TEXT NOT NULL UNIQUE,
    product TEXT
);
INSERT INTO sqlite_sequence
VALUES ('change', CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER));
CREATE TABLE embedded (
    release TEXT NOT NULL,
    product_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    embedding BLOB NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (release, product_id)
) WITHOUT ROWID;
CREATE TABLE applied (release TEXT PRIMARY KEY, position INTEGER NOT NULL)
"""
FORGET_OLD_RELEASES = """
DELETE FROM embedded WHERE release NOT IN (
    SELECT release FROM embedded GROUP BY release ORDER BY max(position) DESC LIMIT ?
)
"""


@dataclass(frozen=True)
class Change:
    """The newest change of a product."""

    position: int
    """Above that of every change made before."""
    product_id: str
    product: Product | None
    """The whole product; None when it was deleted."""


def release_key(manifest: Manifest) -> str:
    """Returns the name of a release in the journal: what has it embeds alike."""
    return f"{manifest.release_id} {manifest.created_at}"


class CatalogJournal:
    """The journal of one shop, shared by the server processes of one machine; make it with `open`.

    What is appended survives the end of every process and loss of power. Reads are made on the
    event loop and take microseconds a product; writes are made in a thread. Every method raises
    StateUnavailable when the file cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writing = database.connect(survives_power_loss=True)
        with database.answer(), database.transaction(self._writing):
            self._writing.execute(FORGET_OLD_RELEASES, (KEPT_RELEASES,))
        self._reading = database.connect()
        self._reading.execute("PRAGMA busy_timeout = 0")
        self._thread = ThreadPoolExecutor(1, "catalog")

    @classmethod
    def open(cls, path: Path) -> CatalogJournal:
        """Opens the file, made first when needed."""
        without = "products are then as releases were published, until they are written again"
        return cls(Database(path, "catalog", SCHEMA, 1, without))

    def latest(self) -> int:
        """Returns the position of the newest change; 0 when there is none."""
        with self._database.answer():
            [position] = self._reading.execute("SELECT max(position) FROM change").fetchone()
        return position or 0

    def current(self, product_ids: Sequence[str]) -> dict[str, Product | None]:
        """Returns what was written of each product; None when it was deleted, nothing if never."""
        with self._database.answer():
            these = _one_of("product_id", product_ids)
            rows = self._reading.execute(
                f"SELECT position, product_id, product FROM change WHERE {these}", product_ids
            ).fetchall()
        return {change.product_id: change.product for change in map(_change_of, rows)}

    def tail(self, after: int, limit: int) -> list[Change]:
        """Returns up to `limit` changes behind the position `after`, in order."""
        with self._database.answer():
            rows = self._reading.execute(
                "SELECT position, product_id, product FROM change WHERE position > ? "
                "ORDER BY position LIMIT ?",
                (after, limit),
            ).fetchall()
        return list(map(_change_of, rows))

    def embedded(self, release: str, changes: Sequence[Change]) -> dict[str, IndexedProduct]:
        """Returns the products written as a release embeds them, as far as that is known."""
        written = {change.product_id: change for change in changes if change.product is not None}
        with self._database.answer():
            rows = self._reading.execute(
                "SELECT product_id, position, embedding, content FROM embedded "
                f"WHERE release = ? AND {_one_of('product_id', list(written))}",
                (release, *written),
            ).fetchall()
        found = {}
        for product_id, position, embedding, content in rows:
            change = written[product_id]
            if change.product is not None and change.position == position:
                found[product_id] = IndexedProduct(
                    change.product,
                    np.frombuffer(embedding, np.float32),
                    np.frombuffer(content, np.int32),
                )
        return found

    def applied(self, release: str) -> int:
        """Returns how far an index that is shared with others holds the journal; 0 for nothing."""
        with self._database.answer():
            row = self._reading.execute(
                "SELECT position FROM applied WHERE release = ?", (release,)
            ).fetchone()
        return 0 if row is None else int(row[0])

    async def mark_applied(self, release: str, position: int, *, timeout_s: float) -> None:
        """Keeps how far such an index holds the journal; it never goes back but to 0."""
        await self._in_thread(timeout_s, self._mark_applied, release, position)

    async def append(
        self,
        changes: Mapping[str, Product | None],
        *,
        seen: int,
        release: str,
        embedded: Mapping[str, IndexedProduct],
        timeout_s: float,
    ) -> bool:
        """Writes changes by product id, all or none; None deletes a product.

        Returns False, and writes nothing, when one of the products changed behind the position
        `seen`: then look again at what is current. `embedded` holds some of the products as the
        release embeds them, for other processes.
        """
        return await self._in_thread(
            timeout_s, self._append, dict(changes), seen, release, dict(embedded)
        )

    async def close(self) -> None:
        """Finishes what is being written and closes the file."""
        await asyncio.to_thread(self._thread.shutdown)
        self._reading.close()
        self._writing.close()

    async def _in_thread(self, timeout_s: float, work: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(self._thread, work, *arguments)
        except TimeoutError as error:
            raise self._database.unavailable("no answer in time") from error

    def _mark_applied(self, release: str, position: int) -> None:
        with self._database.answer(), self._database.transaction(self._writing):
            self._writing.execute(
                "INSERT INTO applied VALUES (?1, ?2) "
                "ON CONFLICT (release) DO UPDATE SET "
                "position = CASE ?2 WHEN 0 THEN 0 ELSE max(position, ?2) END",
                (release, position),
            )

    def _append(
        self,
        changes: dict[str, Product | None],
        seen: int,
        release: str,
        embedded: dict[str, IndexedProduct],
    ) -> bool:
        rows = [(key, None if each is None else _text(each)) for key, each in changes.items()]
        these = _one_of("product_id", rows)
        write = self._writing.execute
        with self._database.answer(), self._database.transaction(self._writing):
            [newest] = write(
                f"SELECT max(position) FROM change WHERE {these}", list(changes)
            ).fetchone()
            if newest is not None and newest > seen:
                return False
            # A row that is replaced gets a new position, behind all others.
            places = ", ".join(["(?, ?)"] * len(rows))
            write(
                f"INSERT OR REPLACE INTO change (product_id, product) VALUES {places}",
                [value for row in rows for value in row],
            )
            write(f"DELETE FROM embedded WHERE {these}", list(changes))
            self._keep(release, embedded)
        return True

    def _keep(self, release: str, embedded: dict[str, IndexedProduct]) -> None:
        if not embedded:
            return
        values: list[str | bytes] = []
        for product_id, each in embedded.items():
            embedding = np.ascontiguousarray(each.embedding, np.float32).tobytes()
            content = np.ascontiguousarray(each.content, np.int32).tobytes()
            values += [release, product_id, product_id, embedding, content]
        position = "(SELECT position FROM change WHERE product_id = ?)"
        places = ", ".join([f"(?, ?, {position}, ?, ?)"] * len(embedded))
        self._writing.execute(f"INSERT INTO embedded VALUES {places}", values)


def _one_of(column: str, values: Sequence[object]) -> str:
    return f"{column} IN ({', '.join('?' * len(values))})"


def _text(product: Product) -> str:
    return json.dumps(product_to_json(product), ensure_ascii=False)


def _change_of(row: tuple[int, str, str | None]) -> Change:
    position, product_id, product = row
    return Change(
        position, product_id, None if product is None else product_from_json(json.loads(product))
    )
