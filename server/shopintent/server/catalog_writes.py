"""Writes to the catalog, and their way into every release that is open.

A write is journaled and then applied to the release that serves; that is when it is acknowledged.
The other releases here, and every other process, follow the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from shopintent.behavior import Product
from shopintent.server.catalog import Catalog
from shopintent.server.catalog_journal import CatalogJournal
from shopintent.server.deadlines import Deadline
from shopintent.server.errors import ShopIntentError
from shopintent.server.serving import ServingRelease
from shopintent.server.traffic import Traffic

logger = logging.getLogger(__name__)

FOLLOW_EVERY_S = 0.25
CATCH_UP_TIMEOUT_S = 60.0
"""For each look; what is applied by then stays applied."""


@dataclass(frozen=True, eq=False)
class CatalogWriter:
    """Writes products for whichever release serves."""

    journal: CatalogJournal
    traffic: Traffic
    written: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by every write here, so that the other releases need not wait to look."""
    _lagging: dict[str, str] = field(default_factory=dict)
    """Why a release could not follow when it was last tried, by its id."""

    async def update(
        self, products: Sequence[Product], written: frozenset[str], *, deadline: Deadline
    ) -> list[Product]:
        """Writes the fields named in `written` of every product, all or none.

        Returns the products as the catalog then holds them. What a product was before is what
        was journaled last, by whichever process, or else what the release was published with; so
        two updates at once of different fields both count, and of the same field the later one.
        Raises ModelUnavailable and ProductNotFound, nothing written, and IndexUnavailable and
        StateUnavailable, when it may be.
        """
        product_ids = [product.product_id for product in products]
        with self.traffic.serving.in_flight:
            catalog = self.traffic.serving.catalog
            held = await catalog.held(product_ids, deadline=deadline)
            known = held
            while True:
                seen = self.journal.latest()
                before: dict[str, Product | None] = {
                    **{key: each.product for key, each in held.items()},
                    **self.journal.current(product_ids),
                }
                merged = {each.product_id: _merge(before, each, written) for each in products}
                # Embedded first: what no model can embed is refused and not journaled.
                known = await catalog.embed(list(merged.values()), known, deadline=deadline)
                if await self.journal.append(
                    merged,
                    seen=seen,
                    release=catalog.key,
                    embedded=known,
                    timeout_s=deadline.share_s(),
                ):
                    break
            await self._take_effect(catalog, deadline)
        return list(merged.values())

    async def delete(self, product_id: str, *, deadline: Deadline) -> None:
        """Deletes a product if there is one. Raises IndexUnavailable and StateUnavailable."""
        with self.traffic.serving.in_flight:
            catalog = self.traffic.serving.catalog
            await catalog.held([product_id], deadline=deadline)
            while not await self.journal.append(
                {product_id: None},
                seen=self.journal.latest(),
                release=catalog.key,
                embedded={},
                timeout_s=deadline.share_s(),
            ):
                pass
            await self._take_effect(catalog, deadline)

    async def _take_effect(self, catalog: Catalog, deadline: Deadline) -> None:
        self.written.set()
        await catalog.catch_up(self.journal, deadline=deadline)

    async def follow(self) -> None:
        """Applies every write, of this process and of others, to the releases that are open."""
        following: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                # Each in a task of its own: one may have much to catch up with.
                for release in self.traffic.ready:
                    before = following.get(release.release_id)
                    if before is None or before.done():
                        task = asyncio.create_task(self._catch_up(release))
                        following[release.release_id] = task
                self.written.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(FOLLOW_EVERY_S):
                        await self.written.wait()
        finally:
            for task in following.values():
                task.cancel()
            await asyncio.gather(*following.values(), return_exceptions=True)

    async def _catch_up(self, release: ServingRelease) -> None:
        if self.traffic.opened(release.release_id) is not release or not release.monitor.serving:
            return
        try:
            with release.in_flight:
                await catch_up(release, self.journal)
        except Exception as error:
            why = str(error) if isinstance(error, ShopIntentError) else repr(error)
            if self._lagging.get(release.release_id) != why:
                logger.warning(
                    "release %s does not follow the catalog: %s", release.release_id, why
                )
            self._lagging[release.release_id] = why
        else:
            self._lagging.pop(release.release_id, None)


async def catch_up(release: ServingRelease, journal: CatalogJournal) -> None:
    """Returns when a release holds every change of the journal; raises as Catalog.catch_up."""
    deadline = Deadline.for_call(None, at_most_s=CATCH_UP_TIMEOUT_S)
    await release.catalog.catch_up(journal, deadline=deadline)


def _merge(
    before: Mapping[str, Product | None], update: Product, written: frozenset[str]
) -> Product:
    base = before.get(update.product_id) or Product(update.product_id)
    return replace(base, **{name: getattr(update, name) for name in written})
