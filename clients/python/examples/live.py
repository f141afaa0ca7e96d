"""Plays a visit and tells what each step says: `python live.py localhost:50051 VISITOR PRODUCT...`.

One call for the whole visit. Should the server end meanwhile, the visit goes on with the next one,
and nothing that was done is lost or counted twice.
"""

from __future__ import annotations

import asyncio
import sys

from shopintent.client import AsyncShopIntentClient, Visitor, events
from shopintent.v1.recommendation_service_pb2 import DegradedReason, StreamIntentsResponse


async def main(target: str, visitor: str, *product_ids: str) -> None:
    async with AsyncShopIntentClient(target, insecure=True) as client:
        recommended = await client.recommend(visitor, page_size=5)
        shown = [each.product.id for each in recommended.recommendations]
        token = recommended.attribution_token
        async with client.stream_intents(visitor) as visit:
            show(
                "shown a list",
                await visit.send([events.impression(shown, attribution_token=token)]),
            )
            for product_id in product_ids or shown[:2]:
                viewed = events.view_product(product_id, attribution_token=token)
                show(f"views {product_id}", await visit.send([viewed]))
            known = Visitor(visitor_id=visitor, user_id=f"user-of-{visitor}")
            show("logs in", await visit.send(visitor=known))
        # Whatever answers this has seen all of the above.
        answer = await client.recommend(
            known, page_size=5, consistency_token=visit.consistency_token
        )
    print(f"next to show: {', '.join(each.product.id for each in answer.recommendations)}")


def show(step: str, update: StreamIntentsResponse) -> None:
    if update.HasField("intent"):
        best = update.intent.next_actions[0]
        print(f"{step:<24} next action {best.action} {best.probability:.1%}")
    for reason in update.degraded_reasons:
        print(f"{step:<24} less than it could be: {DegradedReason.Name(reason)}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
