"""Event times of any writing as unix seconds."""

from __future__ import annotations

import polars as pl

from shopintent.trainer.data.mapping import ISO, ORDER, Time

SECONDS_PER = {
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "ns": 1e-9,
    "minutes": 60.0,
    "hours": 3_600.0,
    "days": 86_400.0,
}

ISO_TIME = (
    r"^\s*(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<minutes>\d{2}:\d{2})(?P<seconds>:\d{2})?(?:[.,]\d+)?)?"
    r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?\s*$"
)


def unix_seconds(column: pl.Expr, time: Time) -> pl.Expr:
    """Returns whole unix seconds of a text column, null where the text is no such time."""
    text = column.str.zfill(time.digits) if time.digits else column
    text = pl.lit(time.prefix) + text if time.prefix else text
    if time.unit in SECONDS_PER:
        number = text.cast(pl.Float64, strict=False)
        unit = SECONDS_PER[time.unit]
        seconds = number * unit if unit >= 1 else number / round(1 / unit)
        return seconds.floor().cast(pl.Int64, strict=False) + time.start
    if time.unit == ORDER:
        return text.cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
    if time.unit == ISO:
        return _iso_seconds(text, time.timezone)
    if "%z" in time.unit or "%:z" in time.unit or "%#z" in time.unit:
        return text.str.to_datetime(time.unit, time_zone="UTC", strict=False).dt.epoch("s")
    moment = text.str.to_datetime(_with_time_of_day(time.unit), strict=False)
    if not _has_time_of_day(time.unit):
        moment = text.str.to_date(time.unit, strict=False).cast(pl.Datetime("us"))
    return _localized(moment, time.timezone).dt.epoch("s")


def temporal_seconds(column: pl.Expr, dtype: pl.DataType, timezone: str) -> pl.Expr:
    """Returns unix seconds of a column that holds dates or times already."""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return column.dt.epoch("s")
    return _localized(column.cast(pl.Datetime("us")), timezone).dt.epoch("s")


def _iso_seconds(text: pl.Expr, timezone: str) -> pl.Expr:
    parts = text.str.extract_groups(ISO_TIME)
    date, zone = parts.struct.field("date"), parts.struct.field("zone")
    minutes = parts.struct.field("minutes").fill_null("00:00")
    seconds = parts.struct.field("seconds").fill_null(":00")
    moment = (date + " " + minutes + seconds).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    utc = moment.dt.epoch("s") - _offset_seconds(zone)
    return pl.when(zone.is_null()).then(_localized(moment, timezone).dt.epoch("s")).otherwise(utc)


def _offset_seconds(zone: pl.Expr) -> pl.Expr:
    """Of "+02:00" or "-0330"; 0 for Z, UTC and GMT."""
    digits = zone.str.replace(":", "", literal=True)
    hours = digits.str.slice(1, 2).cast(pl.Int64, strict=False)
    minutes = digits.str.slice(3, 2).cast(pl.Int64, strict=False)
    sign = pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)
    return (sign * (hours * 3600 + minutes * 60)).fill_null(0)


def _localized(moment: pl.Expr, timezone: str) -> pl.Expr:
    # Times that a change of clocks repeats are taken as the first; skipped ones do not exist.
    return moment.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")


def _has_time_of_day(unit: str) -> bool:
    return any(code in unit for code in ("%H", "%I", "%k", "%l", "%T", "%R", "%c", "%s"))


def _with_time_of_day(unit: str) -> str:
    return unit if _has_time_of_day(unit) else f"{unit} %H"
