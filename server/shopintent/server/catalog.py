"""The catalog of one release: its products in the index, as the release embeds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace

import numpy as np

from shopintent.artifacts import IndexedProduct
from shopintent.artifacts.layout import collection
from shopintent.behavior import Product, product_text
from shopintent.server.catalog_journal import CatalogJournal, Change, release_key
from shopintent.server.deadlines import Deadline
from shopintent.server.errors import IndexUnavailable, ProductNotFound
from shopintent.server.hydrate import Hydrator
from shopintent.server.index import ProductIndex, RemembersChanges
from shopintent.server.inference import ContentEncoder
from shopintent.server.popular import PopularNow
from shopintent.server.releases import Component, Release, ReleaseMonitor

PRODUCT_FIELDS = frozenset(each.name for each in fields(Product)) - {"product_id"}
"""The fields of a product that can be written."""

APPLIED_AT_ONCE = 64
"""Changes between which requests are answered, and products embedded in one batch."""


@dataclass(eq=False)
class Progress:
    """How far the journal was followed here; None when that is still to be found out."""

    position: int | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Keeps changes in their order."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """The products of one release's collection, in the index and in what is held of it here."""

    release: Release
    index: ProductIndex
    encoder: ContentEncoder
    hydrator: Hydrator
    popular: PopularNow
    monitor: ReleaseMonitor
    progress: Progress = field(default_factory=Progress)

    @property
    def key(self) -> str:
        """The name of the release in the journal."""
        return release_key(self.release.manifest)

    async def get(self, product_id: str, *, deadline: Deadline) -> Product:
        """Returns a product. Raises ProductNotFound and IndexUnavailable."""
        found = await self.held([product_id], deadline=deadline)
        if product_id not in found:
            raise ProductNotFound(product_id)
        return found[product_id].product

    async def held(
        self, product_ids: Sequence[str], *, deadline: Deadline
    ) -> dict[str, IndexedProduct]:
        """Returns those of the products that the index holds. Raises IndexUnavailable."""
        self.monitor.ensure_serving()
        self.monitor.ensure_up(Component.INDEX)
        return await self.index.get(product_ids, timeout_s=deadline.share_s())

    async def embed(
        self,
        products: Sequence[Product],
        held: Mapping[str, IndexedProduct],
        *,
        deadline: Deadline,
    ) -> dict[str, IndexedProduct]:
        """Returns every product as the release embeds it, by id.

        Of what is `held` the embedding is taken over unless the content differs. Raises
        ModelUnavailable.
        """
        rows = {
            each.product_id: replace(held[each.product_id], product=each)
            for each in products
            if not _content_differs(held.get(each.product_id), each)
        }
        unknown = [each for each in products if each.product_id not in rows]
        for start in range(0, len(unknown), APPLIED_AT_ONCE):
            batch = unknown[start : start + APPLIED_AT_ONCE]
            rows |= {each.product.product_id: each for each in await self._embed(batch, deadline)}
        return rows

    async def catch_up(self, journal: CatalogJournal, *, deadline: Deadline) -> None:
        """Applies what the journal holds and the index does not, in order.

        Raises IndexUnavailable, ModelUnavailable and StateUnavailable; what was applied stays, and
        the next call goes on from there.
        """
        # An index that is shared was written to by others too, but what is held here was not.
        own = self.index if isinstance(self.index, RemembersChanges) else None
        progress = self.progress
        async with self._alone(deadline):
            if progress.position is None:
                progress.position = own.applied_position if own else journal.applied(self.key)
            while changes := journal.tail(progress.position, APPLIED_AT_ONCE):
                known = journal.embedded(self.key, changes)
                await self._apply(changes, known, deadline)
                progress.position = changes[-1].position
                if own:
                    own.mark_applied(progress.position)
                else:
                    await journal.mark_applied(
                        self.key, progress.position, timeout_s=deadline.share_s()
                    )

    @asynccontextmanager
    async def _alone(self, deadline: Deadline) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self.progress.lock.acquire(), deadline.share_s())
        except TimeoutError as error:
            why = "it is still catching up with the journal"
            raise IndexUnavailable(collection(self.release.release_id), why) from error
        try:
            yield
        finally:
            self.progress.lock.release()

    async def _apply(
        self, changes: Sequence[Change], known: Mapping[str, IndexedProduct], deadline: Deadline
    ) -> None:
        """Makes the changes; those made already, as after a crash, cost a look and no more."""
        written = [change.product for change in changes if change.product is not None]
        deleted = [change.product_id for change in changes if change.product is None]
        held = await self.held([each.product_id for each in written], deadline=deadline)
        different = [
            each
            for each in written
            if each.product_id not in held or held[each.product_id].product != each
        ]
        rows = await self.embed(different, {**held, **known}, deadline=deadline)
        if rows:
            await self.index.upsert(list(rows.values()), timeout_s=deadline.share_s())
        if deleted:
            await self.index.delete(deleted, timeout_s=deadline.share_s())
        self.hydrator.forget([change.product_id for change in changes])
        self.popular.update(written)
        self.popular.forget(deleted)

    async def _embed(self, products: Sequence[Product], deadline: Deadline) -> list[IndexedProduct]:
        self.monitor.ensure_up(Component.ENCODERS)
        tokenizer = self.release.tokenizer
        texts = [product_text(product) for product in products]
        text_embeddings = await self.encoder.encode_texts(texts, timeout_s=deadline.share_s())
        content = tokenizer.encode_content(products, text_embeddings)
        tokens = np.stack(
            [
                tokenizer.encode_product(product.product_id, row)
                for product, row in zip(products, content, strict=True)
            ]
        )
        embeddings = await self.encoder.encode_products(
            tokens, text_embeddings, timeout_s=deadline.share_s()
        )
        rows = zip(products, embeddings, content, strict=True)
        return [IndexedProduct(product, embedding, each) for product, embedding, each in rows]


def _content_differs(held: IndexedProduct | None, product: Product) -> bool:
    """Whether anything that the product's embedding depends on is not as it was."""
    return held is None or replace(held.product, in_stock=product.in_stock) != product
