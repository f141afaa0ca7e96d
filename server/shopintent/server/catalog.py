"""The catalog: reads and writes products, and embeds again those whose content changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from shopintent.artifacts import IndexedProduct
from shopintent.behavior import Product, product_text
from shopintent.server.deadlines import Deadline
from shopintent.server.errors import ProductNotFound
from shopintent.server.hydrate import Hydrator
from shopintent.server.index import ProductIndex
from shopintent.server.inference import ContentEncoder
from shopintent.server.popular import PopularNow
from shopintent.server.releases import Component, Release, ReleaseMonitor

PRODUCT_FIELDS = frozenset(each.name for each in fields(Product)) - {"product_id"}
"""The fields of a product that can be written."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """The products of one release's collection, in the index and in what is held of it here."""

    release: Release
    index: ProductIndex
    encoder: ContentEncoder
    hydrator: Hydrator
    popular: PopularNow
    monitor: ReleaseMonitor
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Keeps two updates in this server from reading before either has written."""

    async def get(self, product_id: str, *, deadline: Deadline) -> Product:
        """Returns a product. Raises ProductNotFound and IndexUnavailable."""
        self.monitor.ensure_serving()
        self.monitor.ensure_up(Component.INDEX)
        found = await self.index.get([product_id], timeout_s=deadline.share_s())
        if product_id not in found:
            raise ProductNotFound(product_id)
        return found[product_id].product

    async def update(
        self, products: Sequence[Product], written: frozenset[str], *, deadline: Deadline
    ) -> list[Product]:
        """Writes the fields named in `written` of every product, all or none.

        Returns the products as the catalog now holds them. Raises IndexUnavailable and, when
        content changed, ModelUnavailable; then nothing was written.
        """
        self.monitor.ensure_serving()
        self.monitor.ensure_up(Component.INDEX)
        product_ids = [product.product_id for product in products]
        async with self.writing:
            held = await self.index.get(product_ids, timeout_s=deadline.share_s())
            merged = [_merge(held.get(each.product_id), each, written) for each in products]
            changed = [each for each in merged if _content_changed(held.get(each.product_id), each)]
            embedded = {
                each.product.product_id: each for each in await self._embed(changed, deadline)
            }
            indexed = [
                embedded.get(each.product_id) or replace(held[each.product_id], product=each)
                for each in merged
            ]
            await self.index.upsert(indexed, timeout_s=deadline.share_s())
            self.hydrator.forget(product_ids)
            self.popular.update(merged)
        return merged

    async def delete(self, product_id: str, *, deadline: Deadline) -> None:
        """Deletes a product if there is one. Raises IndexUnavailable."""
        self.monitor.ensure_serving()
        self.monitor.ensure_up(Component.INDEX)
        async with self.writing:
            await self.index.delete([product_id], timeout_s=deadline.share_s())
            self.hydrator.forget([product_id])
            self.popular.forget([product_id])

    async def _embed(self, products: Sequence[Product], deadline: Deadline) -> list[IndexedProduct]:
        if not products:
            return []
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


def _merge(held: IndexedProduct | None, update: Product, written: frozenset[str]) -> Product:
    base = Product(update.product_id) if held is None else held.product
    return replace(base, **{name: getattr(update, name) for name in written})


def _content_changed(held: IndexedProduct | None, product: Product) -> bool:
    """Whether anything that the product's embedding depends on is not as it was."""
    return held is None or replace(held.product, in_stock=product.in_stock) != product
