"""What the demo shows of every answer: small bars, what moved, and products by title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shopintent.behavior import Event
from shopintent.behavior.events import (
    ADD_TO_CART,
    FAVORITE,
    PURCHASE,
    REMOVE_FROM_CART,
    SEARCH,
    VIEW_CATEGORY,
    VIEW_PRODUCT,
)
from shopintent.client import money
from shopintent.v1.product_pb2 import Product
from shopintent.v1.recommendation_service_pb2 import (
    DegradedReason,
    PredictIntentResponse,
    Recommendation,
    RecommendResponse,
)

WIDTH = 110
BAR = 12
VERBS = {
    VIEW_PRODUCT: "looks at {}",
    VIEW_CATEGORY: "opens the category {}",
    SEARCH: "searches for {}",
    FAVORITE: "likes {}",
    ADD_TO_CART: "puts {} into the cart",
    REMOVE_FROM_CART: "takes {} out of the cart",
    PURCHASE: "buys {}",
}


def console() -> Console:
    """Returns a console that is wide enough for the tables, also in a pipe."""
    found = Console(highlight=False)
    return found if found.width >= WIDTH else Console(highlight=False, width=WIDTH)


def describe(event: Event, product: Product) -> Text:
    """Returns what the shopper does, in words."""
    objects = {SEARCH: f"“{event.search_query}”", VIEW_CATEGORY: event.category}
    what = objects.get(event.event_type, title_of(product))
    before, after = VERBS[event.event_type].split("{}")
    return Text.assemble("the shopper ", before, (what, "bold"), after)


def title_of(product: Product) -> str:
    """Returns the title, or what is known where the log has none."""
    if product.title:
        return product.title
    category = f" (category {product.categories[0]})" if product.categories else ""
    return f"{product.brand} item {product.id}{category}".strip()


def show_answer(
    console: Console,
    intent: PredictIntentResponse,
    recommended: RecommendResponse,
    before: tuple[PredictIntentResponse, RecommendResponse] | None,
) -> None:
    """Prints both answers side by side, with what moved since the answers `before`."""
    intent_before, recommended_before = before or (PredictIntentResponse(), RecommendResponse())
    known = {each.product.id for each in recommended_before.recommendations}
    left, right = Table.grid(), Table.grid()
    left.add_row(Text("next action", style="dim"))
    left.add_row(bars(next_actions(intent), next_actions(intent_before)))
    right.add_row(Text("buys within", style="dim"))
    right.add_row(bars(purchases(intent), purchases(intent_before)))
    right.add_row(Text(expectations(intent), style="dim"))
    right.add_row(Text("recommended", style="dim"))
    right.add_row(products(recommended.recommendations, known))
    both = Table.grid(padding=(0, 4))
    both.add_row(left, right)
    console.print(both)
    for reason in {*intent.degraded_reasons, *recommended.degraded_reasons}:
        console.print(f"less than it could be: {DegradedReason.Name(reason)}", style="yellow")
    console.print()


def next_actions(intent: PredictIntentResponse) -> dict[str, float]:
    """Returns the probability of each next action, most likely first."""
    return {each.action: each.probability for each in intent.next_actions}


def purchases(intent: PredictIntentResponse) -> dict[str, float]:
    """Returns the probability of a purchase in this visit, if predicted, and in each horizon."""
    of_visit = {"this visit": intent.visit_purchase_probability}
    within = {horizon(each.horizon.ToTimedelta()): each.probability for each in intent.purchases}
    return (of_visit if intent.HasField("visit_purchase_probability") else {}) | within


def expectations(intent: PredictIntentResponse) -> str:
    """Returns what is expected of the next purchase, in words; empty when nothing is."""
    words = []
    if intent.HasField("expected_time_to_purchase"):
        words.append(f"after {pause(intent.expected_time_to_purchase.ToTimedelta())}")
    if intent.HasField("expected_quantity"):
        words.append(f"{intent.expected_quantity:.1f} units")
    return f"if so: {', '.join(words)}" if words else ""


def bars(now: Mapping[str, float], before: Mapping[str, float]) -> Table:
    """Returns a line for each probability: its name, a bar, the number, and how far it moved.

    Nothing moved when `before` is empty.
    """
    table = Table.grid(padding=(0, 1))
    for _ in range(2):
        table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", min_width=6)
    for name, probability in now.items():
        bar = Text("█" * round(probability * BAR), style="cyan")
        bar.append("░" * (BAR - len(bar)), style="bright_black")
        moved = delta(probability - before[name]) if name in before else ""
        table.add_row(name, bar, f"{probability:.1%}", moved)
    return table


def delta(change: float) -> Text:
    """Returns the change in percentage points, colored by its direction; blank below 0.05."""
    if abs(change) < 0.0005:
        return Text("·", style="dim")
    return Text(f"{100 * change:+.1f}", style="green" if change > 0 else "red")


def products(recommendations: Sequence[Recommendation], known: set[str]) -> Table:
    """Returns a line for each product; those that were not there before are marked."""
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=36)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=24, style="dim")
    for recommendation in recommendations:
        product = recommendation.product
        is_new = bool(known) and product.id not in known
        mark = Text("▸", style="green") if is_new else Text(" ")
        # The name of a product without a title says its category already.
        shown = product.categories[:1] if product.title else []
        category = "".join(shown).rpartition(" > ")[2]
        # Text, for a title may hold what rich takes for markup.
        table.add_row(mark, Text(title_of(product)), price_of(product), Text(category))
    return table


def price_of(product: Product) -> str:
    """Returns the price with its currency; empty when it is unknown."""
    if not product.HasField("price"):
        return ""
    return f"{money.to_decimal(product.price):,.2f} {product.price.currency_code}"


def pause(duration: timedelta) -> str:
    """Returns about how long, as people say it."""
    minutes = duration.total_seconds() / 60
    for unit, size in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * size:
            return f"{minutes / size:.1f} {unit}"
    return f"{minutes:.0f} minutes"


def horizon(duration: timedelta) -> str:
    """Returns a horizon in the largest unit that fits."""
    minutes = duration.total_seconds() / 60
    if minutes >= 24 * 60:
        return f"{minutes / (24 * 60):g} d"
    return f"{minutes / 60:g} h" if minutes >= 60 else f"{minutes:g} min"
