"""The short ways to write events and prices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st

from shopintent.client import events, money
from shopintent.v1 import user_event_pb2 as pb
from shopintent.v1.user_event_pb2 import UserEvent


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            events.view_product("p"),
            UserEvent(event_type=pb.EVENT_TYPE_VIEW_PRODUCT, product_id="p"),
        ),
        (
            events.view_category("A > B"),
            UserEvent(event_type=pb.EVENT_TYPE_VIEW_CATEGORY, category="A > B"),
        ),
        (events.search("mug"), UserEvent(event_type=pb.EVENT_TYPE_SEARCH, search_query="mug")),
        (
            events.impression(["p", "q"], attribution_token="t", experiment_ids=["e/1", "f/2"]),
            UserEvent(
                event_type=pb.EVENT_TYPE_IMPRESSION,
                shown_product_ids=["p", "q"],
                attribution_token="t",
                experiment_ids=["e/1", "f/2"],
            ),
        ),
        (events.favorite("p"), UserEvent(event_type=pb.EVENT_TYPE_FAVORITE, product_id="p")),
        (
            events.add_to_cart("p", 2),
            UserEvent(event_type=pb.EVENT_TYPE_ADD_TO_CART, product_id="p", quantity=2),
        ),
        (
            events.remove_from_cart("p"),
            UserEvent(event_type=pb.EVENT_TYPE_REMOVE_FROM_CART, product_id="p", quantity=1),
        ),
        (
            events.purchase("p", 3),
            UserEvent(event_type=pb.EVENT_TYPE_PURCHASE, product_id="p", quantity=3),
        ),
    ],
)
def test_each_event_type_fills_the_fields_that_belong_to_it(
    event: UserEvent, expected: UserEvent
) -> None:
    assert event == expected


def test_there_is_a_short_way_to_write_every_event_type() -> None:
    names = [name.removeprefix("EVENT_TYPE_").lower() for name in pb.EventType.keys()[1:]]
    makers: list[Callable[[str], UserEvent]] = [getattr(events, name) for name in names]
    made = [pb.EventType.Name(make("x").event_type) for make in makers]
    assert made == list(pb.EventType.keys()[1:])


def test_details_are_kept_and_times_become_utc() -> None:
    noon_in_delhi = datetime(2026, 1, 2, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    event = events.view_product(
        "p", event_time=noon_in_delhi, event_id="e", attribution_token="token"
    )
    assert event.event_time.ToDatetime(UTC) == noon_in_delhi
    assert (event.event_id, event.attribution_token) == ("e", "token")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        events.view_product("p", event_time=datetime(2026, 1, 2))


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("19.90", Money(units=19, nanos=900_000_000, currency_code="EUR")),
        (0, Money(currency_code="EUR")),
        ("-1.75", Money(units=-1, nanos=-750_000_000, currency_code="EUR")),
    ],
)
def test_amounts_are_exact(amount: str | int, expected: Money) -> None:
    assert money.from_decimal(amount, "EUR") == expected


@given(st.decimals(min_value=0, max_value=10**12, places=9))
def test_an_amount_comes_back_as_it_went(amount: Decimal) -> None:
    assert money.to_decimal(money.from_decimal(amount, "EUR")) == amount


def test_an_amount_finer_than_a_nano_is_refused() -> None:
    with pytest.raises(ValueError, match="more than nine decimals"):
        money.from_decimal("0.0000000001", "EUR")
