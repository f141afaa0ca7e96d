"""The bench of tracking: what it sends, and when it calls an answer stale."""

from __future__ import annotations

from collections import Counter

import pytest

from deploy.bench.events import report, tracking
from deploy.bench.events.freshness import Trials
from deploy.bench.events.options import parse
from deploy.bench.load import unframed
from deploy.bench.measured import Measured
from deploy.bench.results import Cell
from deploy.bench.visitors import Visitor
from shopintent.behavior import Product
from shopintent.v1.event_service_pb2 import TrackEventsRequest
from shopintent.v1.recommendation_service_pb2 import NextActionPrediction, PredictIntentResponse

pytestmark = pytest.mark.events

VISITORS = [Visitor(f"visitor-{number:03}", ()) for number in range(5)]
PRODUCTS = [Product(f"P{number}") for number in range(8, 13)]


def intent(leave: float) -> PredictIntentResponse:
    chances = {"leave": leave, "search": 1 - leave}
    return PredictIntentResponse(
        next_actions=[NextActionPrediction(action=a, probability=p) for a, p in chances.items()]
    )


def test_tracking_sends_so_many_events_of_every_visitor_in_bodies_of_one_length() -> None:
    target = tracking.track_target("127.0.0.1:1", VISITORS, PRODUCTS, 10)
    sent = [TrackEventsRequest.FromString(unframed(body)) for body in target.bodies]
    assert len({len(body) for body in target.bodies}) == 1
    assert {each.visitor.visitor_id for each in sent} == {each.visitor_id for each in VISITORS}
    assert {len(each.events) for each in sent} == {10}
    assert {event.product_id for each in sent for event in each.events} == {"P10", "P11", "P12"}
    # With ids, what is sent over and over would be recorded once.
    assert not any(event.event_id for each in sent for event in each.events)


@pytest.mark.parametrize(
    ("after", "stale"), [(intent(0.3), 0), (intent(0.31), 0), (intent(0.5), 1), (intent(0.49), 1)]
)
def test_an_answer_is_stale_that_is_nearer_to_the_one_before(
    after: PredictIntentResponse, stale: int
) -> None:
    found = Trials()
    found.judge(0.004, intent(0.5), intent(0.3), after, in_one_second=True)
    assert (found.stale, found.undecidable) == (stale, 0)
    assert found.took_ms == [4.0]


@pytest.mark.parametrize(("expected", "in_one_second"), [(0.5, True), (0.3, False)])
def test_an_event_that_changes_no_more_than_time_does_decides_nothing(
    expected: float, in_one_second: bool
) -> None:
    found = Trials()
    found.judge(0.004, intent(0.5), intent(expected), intent(0.5), in_one_second=in_one_second)
    assert (found.stale, found.undecidable) == (0, 1)


def test_costs_are_ratios_within_a_round() -> None:
    def measured(*rates: float) -> list[Measured]:
        return [Measured(rps, 1.0, 2.0, 100, 0, rps) for rps in rates]

    rounds = {
        Cell("sqlite predict_intent", 64, 0): measured(100, 200, 300),
        Cell("sqlite track_10", 64, 0): measured(200, 200, 200),
    }
    asked, told = tracking.rows(rounds, Counter())
    assert (asked["events_per_s"], told["events_per_s"]) == (0.0, 2000.0)
    assert told["rps_to_predict_intent"] == {"median": 1.0, "smallest": 0.667, "largest": 2.0}


@pytest.mark.parametrize(
    ("p99_ms", "stale", "reached"), [(49.9, 0, True), (50.0, 0, False), (5.0, 1, False)]
)
def test_answers_must_know_in_time_and_all_of_them(
    p99_ms: float, stale: int, reached: bool
) -> None:
    assert report.reached({"p99_ms": p99_ms, "stale": stale}) is reached


def test_a_quick_look_is_one_round_of_a_second() -> None:
    options = parse(["--quick", "--stores", "memory"])
    assert (options.stores, options.rounds, options.seconds) == (("memory",), 1, 1.0)
