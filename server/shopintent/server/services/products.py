"""Recommended products as the bytes of a response: serialized when first shown, and kept.

A page of full products takes longer to put into messages than to find. What is kept of a product
is the part of its Recommendation that is always the same, so a page is a join of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from shopintent.behavior import Product
from shopintent.server.ranking import RankedProduct, Source
from shopintent.server.services import convert
from shopintent.server.wire import FIXED_32, LENGTH_DELIMITED, VARINT, tag, varint
from shopintent.v1 import recommendation_service_pb2 as pb

_RECOMMENDATION = tag(pb.RecommendResponse.RECOMMENDATIONS_FIELD_NUMBER, LENGTH_DELIMITED)
_PRODUCT = tag(pb.Recommendation.PRODUCT_FIELD_NUMBER, LENGTH_DELIMITED)
_SOURCE = tag(pb.Recommendation.SOURCE_FIELD_NUMBER, VARINT)
_SCORE = tag(pb.Recommendation.SCORE_FIELD_NUMBER, FIXED_32)
_SOURCE_AND_SCORE_BYTES = 1 + 1 + 1 + 4

SOURCES = {
    Source.PERSONALIZED: pb.RECOMMENDATION_SOURCE_PERSONALIZED,
    Source.POPULAR: pb.RECOMMENDATION_SOURCE_POPULAR,
    Source.TRENDING: pb.RECOMMENDATION_SOURCE_TRENDING,
}
_SOURCE_AND_SCORE = {
    source: _SOURCE + varint(number) + _SCORE for source, number in SOURCES.items()
}
"""What stands before the score, by the source."""


class RecommendedProducts:
    """Adds recommended products to responses; keeps the bytes of at most `max_products` a view."""

    def __init__(self, *, max_products: int = 20_000) -> None:
        self._max_products = max_products
        self._heads: dict[int, dict[str, tuple[Product, bytes]]] = {}

    def add_to(
        self,
        response: pb.RecommendResponse,
        ranked: Sequence[RankedProduct],
        view: int,
    ) -> None:
        """Adds the products, as full as the ProductView asks for, to what the response holds."""
        heads = self._heads.setdefault(view, {})
        parts: list[bytes] = []
        for product, score, source in ranked:
            held = heads.get(product.product_id)
            # The same object is the same product; another may be what was written to the catalog.
            if held is None or (held[0] is not product and held[0] != product):
                held = self._keep(heads, product, view)
            parts += (held[1], _SOURCE_AND_SCORE[source], struct.pack("<f", score))
        response.MergeFromString(b"".join(parts))

    def _keep(
        self, heads: dict[str, tuple[Product, bytes]], product: Product, view: int
    ) -> tuple[Product, bytes]:
        if len(heads) >= self._max_products:
            heads.clear()  # Rare, and made again at a few microseconds each.
        content = convert.product_to_proto(product, view).SerializeToString()
        field = _PRODUCT + varint(len(content)) + content
        head = _RECOMMENDATION + varint(len(field) + _SOURCE_AND_SCORE_BYTES) + field
        held = heads[product.product_id] = (product, head)
        return held
