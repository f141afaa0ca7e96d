"""How many calls are answered at once: as many as end well within their time."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, field

import pytest

from shopintent.server.interceptors.admission import QUIET_S, Admission

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


def test_the_limit_grows_back_when_nobody_stands_in_line(
    admission: Admission, clock: Clock
) -> None:
    for _ in range(20):
        one_round(admission, clock, 5.0, None)
    assert one_round(admission, clock, 5.0, None) == 1
    while admission.is_busy:
        clock.now += 0.02
        admission.stood_in_line(0.001)
    assert one_round(admission, clock, 0.1, None) == MOST


@dataclass
class Served:
    """What became of the calls of a simulation, after its first second."""

    answered: int = 0
    late: int = 0
    refused_after_s: list[float] = field(default_factory=list)


ANSWER_S, REFUSE_S, AWAY_S, WAIT_S = 0.0004, 0.0001, 0.005, 0.25


def simulate(admission: Admission, clock: Clock, calls_per_s: float, seconds: float) -> Served:
    """Serves calls on one core: it takes them from a line, and half of the work of an answer is to
    be done when the model has answered. Callers wait WAIT_S seconds.
    """
    served, start, n_taken, looked_at = Served(), clock.now, 0, clock.now
    away: deque[tuple[float, float, float]] = deque()
    while clock.now < start + seconds:
        came_at = start + n_taken / calls_per_s
        in_line_s = max(clock.now - came_at, 0.0)
        if clock.now - looked_at > 0.02:
            looked_at = clock.now
            if admission.is_busy:
                admission.stood_in_line(in_line_s)
        settled = clock.now > start + 1
        if away and away[0][0] <= clock.now:
            _, asked_at, entered_at = away.popleft()
            clock.now += ANSWER_S / 2
            admission.leave(entered_at, WAIT_S - (entered_at - asked_at))
            served.answered += settled
            served.late += settled and clock.now - asked_at > WAIT_S
        elif came_at > clock.now:
            clock.now = min(came_at, away[0][0] if away else came_at)
        elif admission.is_full:
            n_taken += 1
            clock.now += REFUSE_S
            admission.refused()
            if settled:
                served.refused_after_s.append(clock.now - came_at)
        else:
            n_taken += 1
            entered_at = admission.enter()
            clock.now += ANSWER_S / 2
            away.append((clock.now + AWAY_S, came_at, entered_at))
    return served


def test_a_load_that_can_be_answered_is_answered(admission: Admission, clock: Clock) -> None:
    served = simulate(admission, clock, calls_per_s=0.9 / ANSWER_S, seconds=5)
    assert served.refused_after_s == []
    assert served.late == 0


@pytest.mark.parametrize("times", [1.5, 2.0, 3.0])
def test_of_too_large_a_load_some_is_answered_in_time_and_the_rest_hears_at_once(
    admission: Admission, clock: Clock, times: float
) -> None:
    served = simulate(admission, clock, calls_per_s=times / ANSWER_S, seconds=20)
    # What time refusals leave for answers.
    possible = 19 * (1 - times * REFUSE_S / ANSWER_S) / (ANSWER_S - REFUSE_S)
    assert served.answered > 0.7 * possible
    assert served.late < 0.01 * served.answered
    after = sorted(served.refused_after_s)
    assert after[int(0.99 * len(after))] < 0.01


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
