"""What the demo prints of an answer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from deploy.demo.screen import VERBS, describe, pause, show_answer, title_of
from shopintent.behavior import EVENT_TYPES, Event
from shopintent.behavior.events import SEARCH, VIEW_PRODUCT
from shopintent.client import money
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import Product

KETTLE = Product(
    id="k1",
    title="Kettle",
    categories=["Home > Kitchen"],
    price=money.from_decimal("1039.90", "EUR"),
)
UNTITLED = Product(id="17", categories=["4801426"])


def intent(view: float, buy: float) -> pb.PredictIntentResponse:
    return pb.PredictIntentResponse(
        next_actions=[
            pb.NextActionPrediction(action="view-product", probability=view),
            pb.NextActionPrediction(action="leave", probability=1 - view),
        ],
        purchases=[
            pb.PurchasePrediction(horizon=Duration(seconds=1800), probability=buy),
            pb.PurchasePrediction(horizon=Duration(seconds=3600), probability=buy),
            pb.PurchasePrediction(horizon=Duration(seconds=3 * 86400), probability=buy),
        ],
    )


def recommended(*products: Product) -> pb.RecommendResponse:
    return pb.RecommendResponse(recommendations=[pb.Recommendation(product=p) for p in products])


def test_an_answer_shows_probabilities_horizons_titles_prices_and_categories() -> None:
    console = Console(record=True, width=110)
    show_answer(console, intent(0.75, 0.125), recommended(KETTLE), before=None)
    text = console.export_text()
    for wanted in (
        "view-product",
        "75.0%",
        "30 min",
        "1 h",
        "3 d",
        "12.5%",
        "Kettle",
        "1,039.90 EUR",
    ):
        assert wanted in text
    assert "Kitchen" in text
    assert "+" not in text


def test_what_the_release_predicts_beyond_horizons_is_shown() -> None:
    console = Console(record=True, width=110)
    answer = intent(0.75, 0.125)
    answer.visit_purchase_probability = 0.0625
    answer.expected_time_to_purchase.FromTimedelta(timedelta(hours=7.25))
    answer.expected_quantity = 2.25
    show_answer(console, answer, recommended(KETTLE), before=None)
    text = console.export_text()
    for wanted in ("this visit", "6.2%", "if so: after 7.2 hours, 2.2 units"):
        assert wanted in text


def test_what_the_release_does_not_predict_is_not_shown() -> None:
    console = Console(record=True, width=110)
    show_answer(console, intent(0.75, 0.125), recommended(KETTLE), before=None)
    text = console.export_text()
    assert "this visit" not in text
    assert "if so" not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "0 minutes"), (5_400, "90 minutes"), (7_200, "2.0 hours"), (432_000, "5.0 days")],
)
def test_a_pause_is_told_in_the_unit_that_fits(seconds: int, words: str) -> None:
    assert pause(timedelta(seconds=seconds)) == words


def test_what_moved_is_told_in_percentage_points_and_new_products_are_marked() -> None:
    console = Console(record=True, width=110)
    before = (intent(0.5, 0.1), recommended(UNTITLED))
    show_answer(console, intent(0.75, 0.1), recommended(UNTITLED, KETTLE), before=before)
    lines = console.export_text().splitlines()
    assert any("view-product" in line and "+25.0" in line for line in lines)
    assert any("leave" in line and "-25.0" in line for line in lines)
    assert any("▸ Kettle" in line for line in lines)
    assert not any("▸ item 17" in line for line in lines)


def test_a_degraded_answer_says_why() -> None:
    console = Console(record=True, width=110)
    answer = recommended(KETTLE)
    answer.degraded_reasons.append(pb.DEGRADED_REASON_MODEL_UNAVAILABLE)
    show_answer(console, intent(0.5, 0.1), answer, before=None)
    assert "DEGRADED_REASON_MODEL_UNAVAILABLE" in console.export_text()


def test_a_product_without_a_title_is_named_by_id_and_category() -> None:
    assert title_of(UNTITLED) == "item 17 (category 4801426)"
    assert title_of(Product(id="17")) == "item 17"
    assert title_of(Product(id="17", brand="samsung")) == "samsung item 17"
    console = Console(record=True, width=110)
    show_answer(console, intent(0.5, 0.1), recommended(UNTITLED), before=None)
    assert console.export_text().count("4801426") == 1


def test_a_title_may_hold_anything() -> None:
    console = Console(record=True, width=110)
    odd = Product(id="1", title="Mug [bold]red[/]", categories=["[/x]"])
    show_answer(console, intent(0.5, 0.1), recommended(odd), before=None)
    assert "Mug [bold]red[/]" in console.export_text()


def test_events_are_told_in_words() -> None:
    assert str(describe(Event(VIEW_PRODUCT, 0, product_id="k1"), KETTLE)) == (
        "the shopper looks at Kettle"
    )
    assert str(describe(Event(SEARCH, 0, search_query="red mug"), Product())) == (
        "the shopper searches for “red mug”"
    )


def test_there_are_words_for_every_event_type() -> None:
    assert set(VERBS) == set(EVENT_TYPES)
