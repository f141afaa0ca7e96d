"""Plays one visit through the Python client and shows every answer."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from deploy.demo.screen import describe, show_answer, title_of
from deploy.demo.visit import Visit, retimed
from shopintent.client import ProductNotFoundError, ShopIntentClient
from shopintent.v1.product_pb2 import PRODUCT_VIEW_FULL, Product
from shopintent.v1.recommendation_service_pb2 import (
    PredictIntentResponse,
    ProductFilter,
    RecommendResponse,
)

PATIENCE_S = 20.0
"""Generous: Triton shares the machine with everything else here."""

Answer = tuple[PredictIntentResponse, RecommendResponse]


def play(console: Console, client: ShopIntentClient, visit: Visit) -> None:
    """Asks before the first event and after every event, then adds a product to the catalog."""
    visitor = f"demo-{uuid.uuid4()}"
    console.print("before the first event: nobody is known, a cold start", style="bold")
    answer = ask(client, visitor)
    show_answer(console, *answer, before=None)
    for number, event in enumerate(visit.events, start=1):
        console.print(f"[bold cyan]{number}[/]", describe(event, look_up(client, event.product_id)))
        # Minutes lie between the events of the log and none between ours. So every step is tracked
        # anew, under a visitor of its own, as if its last event had happened now.
        visitor = f"demo-{uuid.uuid4()}"
        behavior = retimed(visit.events[:number], datetime.now(UTC))
        behavior[-1].attribution_token = answer[1].attribution_token
        client.track_events(visitor, behavior, timeout_s=PATIENCE_S)
        before, answer = answer, ask(client, visitor)
        show_answer(console, *answer, before=before)
    model = answer[0].model
    console.print(
        f"answered by release {model.release_id}, model {model.model_name} version "
        f"{model.model_version}\n",
        style="dim",
    )
    add_product(console, client, visitor, visit)


def ask(client: ShopIntentClient, visitor: str) -> Answer:
    """Returns both answers for a visitor."""
    intent = client.predict_intent(visitor, timeout_s=PATIENCE_S)
    recommended = client.recommend(
        visitor, page_size=5, view=PRODUCT_VIEW_FULL, timeout_s=PATIENCE_S
    )
    return intent, recommended


def add_product(console: Console, client: ShopIntentClient, visitor: str, visit: Visit) -> None:
    """Adds a product that training never saw and looks for it among the recommendations."""
    last = next(event.product_id for event in reversed(visit.events) if event.product_id)
    known = look_up(client, last)
    added = Product()
    added.CopyFrom(known)
    added.id = f"new-{uuid.uuid4().hex[:8]}"
    added.title = f"{title_of(known)}, new edition"
    client.batch_update_products([added])
    found = client.get_product(added.id, timeout_s=PATIENCE_S).product
    console.print("[bold]a new product arrives:[/]", Text(title_of(found)))
    answer = client.recommend(
        visitor,
        page_size=100,
        product_filter=ProductFilter(categories=added.categories[:1]),
        timeout_s=PATIENCE_S,
    )
    ids = [each.product.id for each in answer.recommendations]
    where = f"in {added.categories[0]}" if added.categories else "of the whole shop"
    if added.id in ids:
        place = ids.index(added.id) + 1
        told = f"place {place} of {len(ids)} recommendations {where}, without retraining\n"
    else:
        told = f"not among the first {len(ids)} recommendations {where}\n"
    console.print(Text(told))


def look_up(client: ShopIntentClient, product_id: str) -> Product:
    """Returns the product, or only its id when the catalog does not have it."""
    if not product_id:
        return Product()
    try:
        return client.get_product(product_id, timeout_s=PATIENCE_S).product
    except ProductNotFoundError:
        return Product(id=product_id)
