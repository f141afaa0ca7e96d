"""Whatever the rows hold: each is kept or counted under one reason, and what is kept is sound."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from shopintent.behavior import EVENT_TYPES, PRODUCT_EVENT_TYPES
from shopintent.trainer.data import prepare
from shopintent.trainer.data.mapping_file import parse_mapping
from shopintent.trainer.data.report import REMEDIES

NOW = 1_700_000_000
MAPPING = parse_mapping(
    """
name = "test"
format_version = 1
[[sources]]
files = "*.csv"
[columns]
shopper_id = "user"
event_type = "type"
event_time = "time"
product_id = "item"
search_query = "query"
quantity = "units"
[event_types]
view = "view-product"
search = "search"
buy = "purchase"
ping = "ignore"
[time]
unit = "s"
[product]
price = "price"
""",
    "test.toml",
)

anything = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=8
) | st.sampled_from(["", '"', ",", "null", "NaN", "-1", "1e999", "\ufeff"])
fields = st.tuples(
    st.sampled_from(["a", "b", "c"]) | anything,
    st.sampled_from(["view", "buy", "search", "ping"]) | anything,
    st.integers(NOW - 5000, NOW).map(str) | anything,
    st.sampled_from(["P1", "P2"]) | anything,
    anything,
    st.integers(-1, 3).map(str) | anything,
    anything,
)
lines = fields.map(",".join) | anything
sound = st.integers(NOW - 9000, NOW - 6000).map(lambda time: f"z,view,{time},P3,,,")


@settings(max_examples=60, deadline=None)
@given(st.lists(lines, max_size=25), st.lists(sound, min_size=26, max_size=30, unique=True))
def test_every_row_is_kept_or_counted_once(bad: list[str], good: list[str]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        text = "\n".join(["user,type,time,item,query,units,price", *bad, *good])
        (folder / "log").mkdir()
        (folder / "log" / "a.csv").write_text(text, encoding="utf-8", newline="")
        dataset = prepare(folder / "log", MAPPING, folder / "out", now=NOW)
        report = dataset.report()
        events = dataset.events().collect()
        n_rows = sum(line.strip("\r") != "" for line in [*bad, *good])
    assert report["rows_in"] == n_rows
    assert report["rows_in"] == report["rows_out"] + sum(report["dropped"].values())
    assert report["rows_out"] == len(events) >= len(good)
    assert set(report["dropped"]) == {*REMEDIES, "ignored event type"}
    assert set(events["event_type"]) <= set(EVENT_TYPES)
    about_product = events["event_type"].is_in(sorted(PRODUCT_EVENT_TYPES))
    assert ((events["product_id"] != "") == about_product).all()
    assert events["event_time"].is_between(946_684_800, NOW).all()
    assert events.equals(events.sort("shopper_id", "event_time", maintain_order=True))
    steps = events["session_id"].cast(pl.Int64).diff().drop_nulls()
    assert steps.is_in([0, 1]).all()
