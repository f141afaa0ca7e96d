"""Recommends products to a visitor: `python recommend.py localhost:50051 VISITOR`."""

from __future__ import annotations

import asyncio
import sys

from shopintent.client import AsyncShopIntentClient
from shopintent.v1.product_pb2 import PRODUCT_VIEW_FULL
from shopintent.v1.recommendation_service_pb2 import DegradedReason


async def main(target: str, visitor: str = "") -> None:
    async with AsyncShopIntentClient(target, insecure=True) as client:
        answer = await client.recommend(visitor, page_size=5, view=PRODUCT_VIEW_FULL)
    for place, recommendation in enumerate(answer.recommendations, start=1):
        product = recommendation.product
        print(f"{place}. {product.title or product.id}  (score {recommendation.score:.3f})")
    for reason in answer.degraded_reasons:
        print(f"less than it could be: {DegradedReason.Name(reason)}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
