"""Which visit the demo plays, and what it sends."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from deploy.demo.visit import MAX_EVENTS, REQUESTS, choose_visit, retimed
from shopintent.behavior import EVENT_TYPES, Event
from shopintent.behavior.events import (
    ADD_TO_CART,
    FAVORITE,
    PURCHASE,
    SEARCH,
    VIEW_PRODUCT,
)
from shopintent.trainer.data.prepared import EVENT_SCHEMA

CUT = 1_000_000


def session(number: int, start: int, *steps: tuple[str, str]) -> list[dict[str, object]]:
    """Returns the events of one visit, a minute apart; a step is a type and a product or query."""
    return [
        {
            "shopper_id": f"shopper-{number}",
            "session_id": number,
            "event_type": kind,
            "event_time": start + 60 * place,
            "product_id": "" if kind == SEARCH else what,
            "category": "",
            "search_query": what if kind == SEARCH else "",
            "quantity": 1,
            "next_action": "",
            "next_purchase_time": None,
        }
        for place, (kind, what) in enumerate(steps)
    ]


def log(*sessions: list[dict[str, object]]) -> pl.LazyFrame:
    return pl.LazyFrame([row for rows in sessions for row in rows], schema=EVENT_SCHEMA)


VIEWS = [(VIEW_PRODUCT, f"p{number}") for number in range(4)]


def test_a_held_out_visit_that_ends_in_a_purchase_is_preferred() -> None:
    seen_in_training = session(1, CUT - 9000, *VIEWS, (ADD_TO_CART, "p1"), (PURCHASE, "p1"))
    without_purchase = session(2, CUT + 10, (SEARCH, "mug"), *VIEWS, (FAVORITE, "p1"))
    wanted = session(3, CUT + 10, *VIEWS, (PURCHASE, "p3"))
    visit = choose_visit(log(seen_in_training, without_purchase, wanted), cut_time=CUT)
    assert visit.shopper_id == "shopper-3"
    assert visit.held_out
    assert [event.event_type for event in visit.events] == [VIEW_PRODUCT] * 4 + [PURCHASE]


def test_many_kinds_of_event_are_preferred_and_ties_go_to_the_first() -> None:
    plain = session(1, CUT, *VIEWS, (PURCHASE, "p3"))
    varied = [(SEARCH, "mug"), *VIEWS, (ADD_TO_CART, "p3"), (PURCHASE, "p3")]
    visit = choose_visit(
        log(plain, session(2, CUT, *varied), session(3, CUT, *varied)), cut_time=CUT
    )
    assert visit.shopper_id == "shopper-2"
    assert visit.events[0].search_query == "mug"


def test_a_visit_is_played_up_to_its_first_purchase_and_not_too_long() -> None:
    steps = [*VIEWS * 5, (PURCHASE, "p3"), (VIEW_PRODUCT, "p0"), (PURCHASE, "p0")]
    visit = choose_visit(log(session(1, CUT, *steps)), cut_time=CUT)
    assert len(visit.events) == MAX_EVENTS
    assert [event.event_type for event in visit.events].count(PURCHASE) == 1
    assert visit.events[-1].event_type == PURCHASE


def test_a_log_without_anything_held_out_or_bought_still_gives_a_visit() -> None:
    visit = choose_visit(log(session(1, CUT - 500, (VIEW_PRODUCT, "p0"))), cut_time=CUT)
    assert not visit.held_out
    assert [event.product_id for event in visit.events] == ["p0"]


def test_the_last_event_happens_now_and_the_rhythm_stays() -> None:
    behavior = [Event(VIEW_PRODUCT, 100, product_id="p0"), Event(SEARCH, 190, search_query="mug")]
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    first, second = retimed(behavior, now)
    assert second.event_time.ToDatetime(UTC) == now
    assert (now - first.event_time.ToDatetime(UTC)).total_seconds() == 90
    assert (first.product_id, second.search_query) == ("p0", "mug")


def test_every_event_type_can_be_sent() -> None:
    assert set(REQUESTS) == set(EVENT_TYPES)
