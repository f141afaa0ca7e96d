"""Sessions, their outcomes, and what came next."""

from __future__ import annotations

import polars as pl
import pytest

from shopintent.trainer.data.labels import with_labels
from shopintent.trainer.data.mapping import Session
from shopintent.trainer.data.sessions import sessions_of, with_session_ids

Row = tuple[str, int, str]


def events(*rows: Row, raw: list[str | None] | None = None) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["shopper_id", "event_time", "event_type"], orient="row")
    return frame.with_columns(pl.Series("raw_session", raw or [None] * len(frame), pl.String))


def session_ids(frame: pl.DataFrame, session: Session, first: int = 0) -> list[int]:
    return with_session_ids(frame, session, first)["session_id"].to_list()


def test_a_pause_longer_than_the_gap_starts_a_session() -> None:
    view = "view-product"
    frame = events(("a", 0, view), ("a", 1800, view), ("a", 3601, view), ("b", 3601, view))
    assert session_ids(frame, Session("gap", 30), first=5) == [5, 5, 6, 7]


def test_a_session_column_decides_where_the_log_has_one() -> None:
    rows: list[Row] = [(who, time, "view-product") for time, who in enumerate("aaaaabb")]
    frame = events(*rows, raw=["x", "x", "y", None, None, "y", "y"])
    assert session_ids(frame, Session("column", 30)) == [0, 0, 1, 2, 2, 3, 3]


def test_events_without_a_session_number_follow_the_gap_rule() -> None:
    frame = events(("a", 0, "search"), ("a", 9, "search"), ("a", 9999, "search"))
    assert session_ids(frame, Session("column", 30)) == [0, 0, 1]


@pytest.mark.parametrize(
    ("types", "outcome"),
    [
        (["view-product", "view-product"], "browse"),
        (["view-category"], "browse"),
        (["view-product", "view-category"], "browse"),
        (["search", "view-category"], "search"),
        (["view-category", "view-product"], "click"),
        (["search", "view-product"], "click"),
        (["view-product", "favorite"], "click"),
        (["add-to-cart", "remove-from-cart"], "click"),
        (["search", "view-product", "add-to-cart", "purchase"], "purchase"),
    ],
)
def test_a_session_ends_in_the_strongest_thing_done(types: list[str], outcome: str) -> None:
    frame = events(*[("a", i, kind) for i, kind in enumerate(types)])
    sessions = sessions_of(with_session_ids(frame, Session(), 0))
    assert sessions["outcome"].to_list() == [outcome]
    assert sessions.row(0)[2:5] == (0, len(types) - 1, len(types))


def test_labels_are_the_next_action_of_the_visit_and_the_next_purchase_of_the_shopper() -> None:
    frame = events(
        ("a", 0, "view-product"),
        ("a", 5, "purchase"),
        ("a", 5, "view-product"),
        ("a", 90_000, "add-to-cart"),
        ("a", 90_001, "purchase"),
        ("b", 7, "search"),
    )
    labeled = with_labels(with_session_ids(frame, Session(), 0))
    assert labeled["next_action"].to_list() == [
        "purchase",
        "view-product",
        "leave",
        "purchase",
        "leave",
        "leave",
    ]
    assert labeled["next_purchase_time"].to_list() == [5, 90_001, 90_001, 90_001, None, None]
