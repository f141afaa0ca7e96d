"""How many calls are answered at once: as many as end well within their time."""

from __future__ import annotations

import logging
import time

import pytest

from shopintent.server.interceptors.admission import FEWEST, QUIET_S, Admission

MOST = 100


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(most=MOST, timeout_s=1.0)


def admitted_calls(admission: Admission) -> list[float]:
    """Lets calls in until no more are."""
    entered = []
    while not admission.is_full:
        entered.append(admission.enter())
    return entered


def one_round(admission: Admission, clock: Clock, took_s: float, time_s: float | None) -> int:
    """Fills the server with calls that all take so long; returns how many they were."""
    entered = admitted_calls(admission)
    clock.now += took_s
    for entered_at in entered:
        admission.leave(entered_at, time_s)
    return len(entered)


def test_all_that_may_be_are_admitted_as_long_as_calls_end_early(
    admission: Admission, clock: Clock
) -> None:
    assert [one_round(admission, clock, 0.1, None) for _ in range(3)] == [MOST] * 3


def test_late_calls_lower_the_limit_once_a_round(admission: Admission, clock: Clock) -> None:
    one_round(admission, clock, 1.0, None)
    assert one_round(admission, clock, 0.1, None) == pytest.approx(0.7 * MOST, abs=1)


@pytest.mark.parametrize(("time_s", "is_late"), [(0.2, True), (0.4, False), (60.0, False)])
def test_late_is_late_for_the_caller(
    admission: Admission, clock: Clock, time_s: float, is_late: bool
) -> None:
    one_round(admission, clock, 0.19, time_s)
    assert (one_round(admission, clock, 0.01, None) < MOST) == is_late


def test_a_server_that_takes_a_millisecond_a_call_ends_all_it_admits_in_time(
    admission: Admission, clock: Clock
) -> None:
    """100 at once take 0.1 s, twice what callers wait; it settles below 50 and near it."""
    rounds = []
    for _ in range(200):
        entered = admitted_calls(admission)
        clock.now += 0.001 * len(entered)
        for entered_at in entered:
            admission.leave(entered_at, 0.05)
        rounds.append(len(entered))
    assert all(25 <= n_calls < 40 for n_calls in rounds[20:])


def test_the_limit_grows_back_when_calls_are_quick_again(
    admission: Admission, clock: Clock
) -> None:
    for _ in range(10):
        one_round(admission, clock, 5.0, None)
    assert one_round(admission, clock, 5.0, None) == FEWEST
    rounds = [one_round(admission, clock, 0.001, None) for _ in range(100)]
    assert rounds == sorted(rounds)
    assert rounds[-1] == MOST


def test_a_limit_that_nobody_comes_near_is_not_raised(admission: Admission, clock: Clock) -> None:
    one_round(admission, clock, 1.0, None)
    for _ in range(1000):
        admission.leave(admission.enter(), None)
    assert one_round(admission, clock, 0.1, None) < MOST


def test_turning_calls_away_is_said_once(
    admission: Admission, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        admission.refused()
        clock.now += 0.1
    assert [each.message for each in caplog.records] == ["turning calls away"]
    assert caplog.records[0].levelno == logging.WARNING
    clock.now += QUIET_S + 1
    admission.refused()
    assert len(caplog.records) == 2
