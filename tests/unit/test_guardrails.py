"""Guardrails: what a canary is rolled back for, and what not."""

from __future__ import annotations

import pytest

from shopintent.server.guardrails import AnswerStats, Limits, Summary, objection

BROWSE = (("view-product", 0.7), ("leave", 0.3))
LEAVE = (("view-product", 0.1), ("leave", 0.9))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def seen(
    n: int = 100,
    *,
    failed: int = 0,
    degraded: int = 0,
    latency_s: float = 0.005,
    intent: tuple[tuple[str, float], ...] = BROWSE,
) -> Summary:
    stats = AnswerStats(Clock())
    for number in range(n):
        stats.count(latency_s, failed=number < failed, degraded=number < degraded)
        stats.count_intent(intent)
    return stats.summary()


def test_a_canary_that_answers_like_the_serving_release_stays() -> None:
    assert objection(seen(), seen(), Limits()) is None


@pytest.mark.parametrize(
    ("canary", "why"),
    [
        (seen(failed=5), "5.0% of its requests failed, 0.0% of the serving"),
        (seen(degraded=9), "9.0% of its answers were degraded"),
        (seen(latency_s=0.060), "95th percentile"),
        (seen(intent=LEAVE), "intents are 0.60 apart"),
    ],
)
def test_a_canary_that_is_worse_is_objected_to_with_the_reason(canary: Summary, why: str) -> None:
    told = objection(canary, seen(), Limits())
    assert told is not None
    assert why in told


def test_what_happens_to_both_is_not_the_canarys_fault() -> None:
    bad = seen(failed=40, degraded=40, latency_s=0.5)
    assert objection(bad, bad, Limits()) is None


def test_a_few_requests_say_nothing() -> None:
    assert objection(seen(20, failed=20), seen(), Limits()) is None


def test_failures_count_even_while_the_serving_release_is_asked_little() -> None:
    assert objection(seen(failed=50), seen(3), Limits()) is not None


def test_a_fast_canary_may_be_twice_as_slow_as_a_faster_release() -> None:
    assert objection(seen(latency_s=0.004), seen(latency_s=0.001), Limits()) is None


def test_seconds_before_the_window_are_forgotten() -> None:
    clock = Clock()
    stats = AnswerStats(clock)
    stats.count(0.01, failed=True)
    clock.now += 9
    stats.count(0.01)
    assert stats.summary().requests == 2
    clock.now += 2
    assert stats.summary().requests == 1
    assert stats.summary().errors == 0.0


def test_the_percentile_is_within_a_quarter_of_the_truth() -> None:
    stats = AnswerStats(Clock())
    for milliseconds in range(1, 101):
        stats.count(milliseconds / 1000)
    assert 0.095 <= stats.summary().latency_s <= 0.095 * 1.25


def test_latencies_beyond_every_edge_are_counted() -> None:
    assert seen(latency_s=60.0).latency_s > 4.0
