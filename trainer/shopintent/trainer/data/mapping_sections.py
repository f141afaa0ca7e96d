"""The tables of a mapping that say what values mean: event types, times, visits, cleaning."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones

from shopintent.behavior import EVENT_TYPES
from shopintent.trainer.data.mapping import IGNORE, ISO, ORDER, Cleaning, Session, Time
from shopintent.trainer.data.tables import Table, did_you_mean
from shopintent.trainer.data.times import SECONDS_PER


def read_event_types(table: Table | None) -> dict[str, str]:
    """Returns what each raw event type means."""
    if table is None:
        return {}
    event_types: dict[str, str] = {}
    for raw, canonical in table.items().items():
        if not isinstance(canonical, str):
            raise table.error(
                raw, f'must be an event type, not {canonical!r}; write "4.0" in quotes.'
            )
        if canonical != IGNORE:
            check_event_type(table, raw, canonical)
        event_types[raw] = canonical
    return event_types


def check_event_type(table: Table, key: str, event_type: str) -> None:
    """Raises MappingError unless the value of a key is an event type."""
    if event_type not in EVENT_TYPES:
        hint = did_you_mean(event_type, (*EVENT_TYPES, IGNORE))
        raise table.error(key, f'"{event_type}" is no event type.{hint}')


def read_time(table: Table | None) -> Time:
    """Returns how event times are written."""
    if table is None:
        return Time()
    time = Time(
        unit=str(table.text("unit", "iso")),
        timezone=str(table.text("timezone", "UTC")),
        start=read_moment(table, "start") or 0,
        step_minutes=table.number("step_minutes", Time.step_minutes, minimum=0.1),
        prefix=str(table.text("prefix", "")),
        digits=table.integer("digits", 0),
    )
    if time.unit not in (*SECONDS_PER, ISO, ORDER) and "%" not in time.unit:
        units = ", ".join(f'"{unit}"' for unit in (ISO, *SECONDS_PER, ORDER))
        raise table.error(
            "unit", f'must be one of {units} or a strptime format, not "{time.unit}".'
        )
    if time.start and time.unit not in SECONDS_PER:
        raise table.error("start", f"is where numbers count from; {time.unit} is no number.")
    if time.timezone not in available_timezones():
        raise table.error("timezone", f'"{time.timezone}" is unknown; use "Europe/Berlin" style.')
    table.finish()
    return time


def read_session(table: Table | None) -> Session:
    """Returns what makes a visit."""
    if table is None:
        return Session()
    session = Session(
        rule=str(table.text("rule", "gap")),
        gap_minutes=table.number("gap_minutes", 30.0, minimum=1.0),
    )
    if session.rule not in ("gap", "column"):
        raise table.error("rule", 'must be "gap" or "column".')
    table.finish()
    return session


def read_cleaning(table: Table | None) -> Cleaning:
    """Returns the limits beyond which rows are dropped."""
    if table is None:
        return Cleaning()
    default = Cleaning()
    cleaning = Cleaning(
        duplicates=str(table.text("duplicates", default.duplicates)),
        max_events_per_day=table.integer("max_events_per_day", default.max_events_per_day),
        max_events_per_minute=table.integer("max_events_per_minute", default.max_events_per_minute),
        bot_minutes=table.integer("bot_minutes", default.bot_minutes, minimum=1),
        earliest=read_moment(table, "earliest") or default.earliest,
        latest=read_moment(table, "latest"),
        max_price=table.number("max_price", default.max_price),
        anonymous_shopper_ids=table.texts("anonymous_shopper_ids"),
    )
    if cleaning.duplicates not in ("drop", "keep"):
        raise table.error("duplicates", 'must be "drop" or "keep".')
    if cleaning.latest is not None and cleaning.latest <= cleaning.earliest:
        raise table.error("latest", "must be after earliest.")
    table.finish()
    return cleaning


def read_moment(table: Table, key: str) -> int | None:
    """Returns an ISO time as unix seconds; None when the key is absent."""
    text = table.text(key)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise table.error(key, 'must be an ISO time such as "2024-05-01T00:00:00Z".') from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo("UTC"))
    return int(moment.timestamp())
