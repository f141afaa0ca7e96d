"""Event times of any writing become the same unix seconds."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from shopintent.trainer.data.mapping import Time
from shopintent.trainer.data.times import temporal_seconds, unix_seconds

NOON = int(datetime(2019, 10, 1, 12, 0, 5, tzinfo=UTC).timestamp())


def read(text: str, time: Time) -> int | None:
    frame = pl.LazyFrame({"t": [text]}, schema={"t": pl.String})
    return frame.select(unix_seconds(pl.col("t"), time)).collect().item()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (str(NOON), Time("s")),
        (f"{NOON}.75", Time("s")),
        (f"{NOON}999", Time("ms")),
        (f"{NOON}000001", Time("us")),
        ("2019-10-01T12:00:05Z", Time()),
        ("2019-10-01 12:00:05 UTC", Time()),
        ("2019-10-01T12:00:05.277Z", Time()),
        ("2019-10-01T14:00:05+02:00", Time()),
        ("2019-10-01T08:30:05-0330", Time()),
        ("2019-10-01 14:00:05", Time("iso", "Europe/Berlin")),
        ("10/1/2019 12:00:05", Time("%m/%d/%Y %H:%M:%S")),
        ("01.10.2019 20:00:05", Time("%d.%m.%Y %H:%M:%S", "Asia/Shanghai")),
        ("2019-10-01 14:00:05 +0200", Time("%Y-%m-%d %H:%M:%S %z")),
    ],
)
def test_every_writing_of_a_time_means_the_same_second(text: str, time: Time) -> None:
    assert read(text, time) == NOON


def test_a_log_without_a_year_gets_it_from_the_mapping() -> None:
    midnight = int(datetime(2014, 8, 29, tzinfo=UTC).timestamp())
    assert read("829", Time("%Y%m%d", prefix="2014", digits=4)) == midnight


def test_a_date_alone_is_its_midnight() -> None:
    midnight = int(datetime(2019, 10, 1, tzinfo=UTC).timestamp())
    assert read("2019-10-01", Time()) == midnight
    assert read("01.10.2019", Time("%d.%m.%Y")) == midnight


@pytest.mark.parametrize("text", ["", "soon", "2019-13-01T00:00:00Z", "2019-10-01T25:00"])
def test_what_is_no_time_is_null(text: str) -> None:
    assert read(text, Time()) is None
    assert read(text, Time("s")) is None
    assert read(text, Time("%Y-%m-%d")) is None


@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e400"])
def test_numbers_beyond_reason_are_null(unit: str, text: str) -> None:
    assert read(text, Time(unit)) is None


def test_a_time_that_a_change_of_clocks_skips_is_null() -> None:
    assert read("2024-03-31 02:30:00", Time("iso", "Europe/Berlin")) is None


def test_columns_that_hold_times_already_need_no_unit() -> None:
    naive = pl.DataFrame({"t": [datetime(2019, 10, 1, 12, 0, 5)]})
    aware = naive.select(pl.col("t").dt.replace_time_zone("UTC"))
    day = pl.DataFrame({"t": [date(2019, 10, 1)]})
    column = pl.col("t")
    assert naive.select(temporal_seconds(column, naive["t"].dtype, "UTC")).item() == NOON
    assert aware.select(temporal_seconds(column, aware["t"].dtype, "Asia/Tokyo")).item() == NOON
    midnight = day.select(temporal_seconds(column, day["t"].dtype, "UTC")).item()
    assert midnight == NOON - NOON % 86_400


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (f"{NOON}000000001", Time("ns")),
        ("725", Time("minutes", start=NOON - 725 * 60)),
        ("2", Time("hours", start=NOON - 7_200)),
        ("711", Time("days", start=NOON - 711 * 86_400)),
    ],
)
def test_numbers_count_units_from_a_start(text: str, time: Time) -> None:
    assert read(text, time) == NOON
