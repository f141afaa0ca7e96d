"""What is held out: enough to judge purchases on, and enough left to learn them from."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import polars as pl
import pytest

from shopintent.trainer.data.prepared import Dataset, DatasetInfo
from shopintent.trainer.training_data import TrainingDataError, cut_time

HOUR = 3_600
START = 1_700_000_000


class Log:
    """A dataset of nothing but times."""

    def __init__(self, hours: float, times: list[float]) -> None:
        until = START + int(hours * HOUR)
        self.info = replace(INFO, observed_from=START, observed_until=until)
        self._times = [START + int(each * HOUR) for each in times]

    def events(self) -> pl.LazyFrame:
        return pl.LazyFrame({"event_time": self._times})


INFO = DatasetInfo(
    format_version=1,
    mapping="test",
    event_types=("view-product", "purchase"),
    observed_from=0,
    observed_until=0,
    session_rule="gap",
    session_gap_s=1800,
    currency="",
    n_events=0,
    n_sessions=0,
    n_shoppers=0,
    n_products=0,
)


def cut_hours(log: Log, *, holdout_days: float | None = None) -> float:
    cut = cut_time(cast(Dataset, log), holdout_share=0.2, holdout_days=holdout_days)
    return (cut - START) / HOUR


def test_the_newest_fifth_of_the_events_is_held_out_not_of_the_time() -> None:
    early = [each / 10 for each in range(800)]
    late = [100 + each / 2 for each in range(200)]
    assert cut_hours(Log(200, early + late)) == pytest.approx(100, abs=1)


def test_at_least_two_pauses_between_visits_are_held_out() -> None:
    rush = [each / 100 for each in range(100)] + [9.9 + each / 10_000 for each in range(900)]
    assert cut_hours(Log(10, rush)) == pytest.approx(10 - 2 * INFO.session_gap_s / HOUR)


def test_days_win_over_the_share() -> None:
    log = Log(240, [each / 4 for each in range(960)])
    assert cut_hours(log, holdout_days=2) == pytest.approx(192)


def test_a_moment_wins_over_days() -> None:
    log = Log(240, [each / 4 for each in range(960)])
    moment = START + 100 * HOUR
    given = {"holdout_share": 0.2, "holdout_days": 2.0, "holdout_from": moment}
    assert cut_time(cast(Dataset, log), **given) == moment  # type: ignore[arg-type]


@pytest.mark.parametrize(("hours", "days"), [(1.5, None), (48, 2.0), (48, 3.0), (48, -1.0)])
def test_a_log_too_short_to_learn_and_to_judge_is_refused(hours: float, days: float | None) -> None:
    log = Log(hours, [hours * each / 100 for each in range(100)])
    with pytest.raises(TrainingDataError, match=f"spans {hours:.1f} hours"):
        cut_hours(log, holdout_days=days)
