"""Preparing an event log: each record once, whoever it is about, whatever is left of a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from shopintent.artifacts.event_log import (
    DAYS,
    FORMAT_VERSION,
    IMPRESSION,
    LOG_FILE,
    LOGIN,
    PRODUCTS_FILE,
    SEGMENTS,
    Compacted,
    LogRecord,
    Segment,
)
from shopintent.artifacts.products import product_to_json
from shopintent.behavior import Product
from shopintent.trainer.__main__ import app
from shopintent.trainer.data import Dataset, PrepareError, event_log, event_records
from shopintent.trainer.data.event_log import prepare_events
from shopintent.trainer.data.event_records import REPEATED

pytestmark = pytest.mark.events

NOW = 1_750_000_000
ODD = 'NA "küche"\n1 \u2028 \x85 \r \\n ,;\t \U0001f9a9 x'
YESTERDAY, TODAY = "2025-06-14", "2025-06-15"
SEQUENCES = count(1)


def record(shopper: str, product: str = "P1", *, at: int = NOW - 9_000, **fields: Any) -> LogRecord:
    """Returns a record of a view that was received when it happened."""
    values = {
        "source": "store",
        "sequence": next(SEQUENCES),
        "received_at": float(at),
        "shopper": shopper,
        "event_type": "view-product",
        "event_time": at,
        "product_id": product,
    }
    return LogRecord(**{**values, **fields})


def login(shopper: str, alias: str, *, at: int) -> LogRecord:
    return record(shopper, "", at=at, event_type=LOGIN, alias=alias)


class Log:
    """An event log that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / SEGMENTS).mkdir(parents=True)
        (folder / LOG_FILE).write_text(json.dumps({"format_version": FORMAT_VERSION}))

    def segment(self, number: int, records: Sequence[LogRecord], *, torn: bytes = b"") -> Path:
        path = self.folder / SEGMENTS / Segment(TODAY, number).name
        path.write_bytes(b"".join(each.to_line() for each in records) + torn)
        return path

    def day(self, day: str, number: int, records: Sequence[LogRecord]) -> Path:
        path = self.folder / DAYS / day / Compacted(day, number, number).name
        path.parent.mkdir(parents=True)
        pl.DataFrame([asdict(each) for each in records]).write_parquet(path)
        return path

    def prepare(self, **options: Any) -> Dataset:
        return prepare_events(str(self.folder), self.folder.parent / "out", now=NOW, **options)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def done(dataset: Dataset) -> list[tuple[str, str]]:
    """Returns who looked at what, in order."""
    return list(dataset.events().select("shopper_id", "product_id").collect().iter_rows())


def test_segments_and_finished_days_are_one_log(log: Log) -> None:
    log.day(YESTERDAY, 1, [record("a", "P1", at=NOW - 90_000)])
    log.segment(3, [record("a", "P2"), record("b", "P3")])
    dataset = log.prepare()
    assert done(dataset) == [("a", "P1"), ("a", "P2"), ("b", "P3")]
    assert {file["file"].split("/")[0] for file in dataset.report()["files"]} == {DAYS, SEGMENTS}


def test_a_segment_that_became_parquet_before_a_crash_counts_once(log: Log) -> None:
    both = [record("a", f"P{n}", at=NOW - 9_000 + n) for n in range(5)]
    newer = [record("a", "P9", at=NOW - 8_000)]
    log.day(TODAY, 2, both)
    log.segment(2, both)
    log.segment(3, newer)
    dataset = log.prepare()
    assert done(dataset) == [("a", each.product_id) for each in [*both, *newer]]


def test_a_record_that_stands_in_two_files_counts_once(log: Log) -> None:
    both = [record("a", f"P{n}", at=NOW - 9_000 + n) for n in range(5)]
    newer = [record("a", "P9", at=NOW - 8_000)]
    log.day(YESTERDAY, 1, both)
    log.segment(2, [*both[::-1], *newer])
    dataset = log.prepare()
    assert done(dataset) == [("a", each.product_id) for each in [*both, *newer]]
    assert dataset.report()["apart"][REPEATED] == len(both)


def test_equal_numbers_of_different_sources_are_different_records(log: Log) -> None:
    one = record("a", "P1")
    log.segment(2, [one, replace(one, source="other store", product_id="P2")])
    assert done(log.prepare()) == [("a", "P1"), ("a", "P2")]


def test_what_looks_alike_happened_twice(log: Log) -> None:
    log.segment(2, [record("a", "P1"), record("a", "P1")])
    assert done(log.prepare()) == [("a", "P1"), ("a", "P1")]


def test_a_torn_last_line_costs_only_itself(log: Log) -> None:
    log.segment(2, [record("a")], torn=record("a", "P2").to_line()[:70])
    log.segment(3, [record("a", "P3", at=NOW - 8_000)])
    dataset = log.prepare()
    assert done(dataset) == [("a", "P1"), ("a", "P3")]
    assert dataset.report()["apart"]["torn lines"] == 1


def test_a_login_joins_what_was_done_before_and_after_it(log: Log) -> None:
    log.day(YESTERDAY, 1, [record("anonymous", "P1", at=NOW - 90_000)])
    log.segment(
        2,
        [
            record("anonymous", "P2", at=NOW - 9_000),
            login("known", "anonymous", at=NOW - 8_000),
            record("anonymous", "P3", at=NOW - 7_000),
            record("known", "P4", at=NOW - 6_000),
            record("other", "P5"),
        ],
    )
    dataset = log.prepare()
    assert done(dataset) == [*(("known", f"P{n}") for n in (1, 2, 3, 4)), ("other", "P5")]
    assert dataset.report()["apart"]["logins"] == 1


def test_a_device_whose_shopper_changes_belongs_to_each_in_turn(log: Log) -> None:
    log.segment(
        2,
        [
            record("device", "P1", at=NOW - 9_000),
            login("first", "device", at=NOW - 8_000),
            record("device", "P2", at=NOW - 7_000),
            login("second", "device", at=NOW - 6_000),
            record("device", "P3", at=NOW - 5_000),
        ],
    )
    assert done(log.prepare()) == [("first", "P1"), ("first", "P2"), ("second", "P3")]


def test_impressions_are_counted_apart_and_never_dropped_as_unknown(log: Log) -> None:
    shown = record("a", "", event_type=IMPRESSION, shown_product_ids=("P1", "P2"))
    log.segment(2, [shown, record("a"), replace(shown, sequence=0)])
    report = log.prepare().report()
    assert report["apart"]["impressions"] == 2
    assert report["rows_in"] == report["rows_out"] == 1
    assert not report["warnings"]


def test_every_field_of_behavior_comes_through(log: Log) -> None:
    log.segment(
        2,
        [
            record("a", "", at=NOW - 90, event_type="search", search_query=ODD),
            record("a", "", at=NOW - 80, event_type="view-category", category="Home > Pans"),
            record("a", "null", at=NOW - 70),
            record("a", "P1", at=NOW - 61, event_type="purchase", quantity=3),
        ],
    )
    columns = ("event_type", "event_time", "product_id", "category", "search_query", "quantity")
    assert list(log.prepare().events().select(columns).collect().iter_rows()) == [
        ("search", NOW - 90, "", "", ODD, 0),
        ("view-category", NOW - 80, "", "Home > Pans", "", 0),
        ("view-product", NOW - 70, "null", "", "", 0),
        ("purchase", NOW - 61, "P1", "", "", 3),
    ]


def test_products_that_the_shop_wrote_go_before_those_of_an_earlier_dataset(
    log: Log, tmp_path: Path
) -> None:
    written = [
        Product("P1", "New title", categories=("Home > Pans", "Sale"), currency="EUR"),
        Product("new", "New\u2028product\x85\r"),
    ]
    lines = [json.dumps(product_to_json(each), ensure_ascii=False) for each in written]
    (log.folder / PRODUCTS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    log.segment(2, [record("a", "P1"), record("a", "P2"), record("a", "unwritten")])
    first = {each.product_id: each for each in log.prepare().products()}
    assert first["P1"].categories == ("Home > Pans", "Sale")
    assert set(first) == {"P1", "P2", "new", "unwritten"}

    (log.folder / PRODUCTS_FILE).write_text(
        json.dumps(product_to_json(Product("P1", "Newer title"))) + "\n", encoding="utf-8"
    )
    (log.folder.parent / "out").rename(tmp_path / "earlier")
    dataset = log.prepare(earlier=Dataset.open(tmp_path / "earlier"))
    again = {each.product_id: each for each in dataset.products()}
    assert again["P1"].title == "Newer title"
    assert again["new"].title == "New\u2028product\x85\r"
    counts = dict(dataset.product_table().select("product_id", "n_events").collect().iter_rows())
    assert counts == {"P1": 1, "P2": 1, "new": 0, "unwritten": 1}


def test_a_folder_that_is_no_log_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"is no event log.*event-log in their state folder"):
        prepare_events(str(tmp_path), tmp_path / "out")


def test_a_log_without_behavior_says_what_it_holds(log: Log) -> None:
    log.segment(2, [login("a", "b", at=NOW - 9)])
    log.segment(3, [])
    with pytest.raises(PrepareError, match=r"no behavior yet: .*1 logins"):
        log.prepare()


def test_files_that_servers_replace_while_they_are_read_are_read_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [record("a", "P1"), record("a", "P2")]
    segment = log.segment(2, records)
    write, calls = event_records.write_behavior, count()

    def compact_first(*arguments: Any) -> dict[str, int]:
        if next(calls) == 0:
            log.day(TODAY, 2, records)
            segment.unlink()
        return write(*arguments)

    monkeypatch.setattr(event_log, "write_behavior", compact_first)
    assert done(log.prepare()) == [("a", "P1"), ("a", "P2")]


def test_a_damaged_file_is_named(log: Log) -> None:
    log.day(YESTERDAY, 1, [record("a")]).write_bytes(b"PAR1 and nothing else")
    with pytest.raises(PrepareError, match=r"events-.*\.parquet: is not readable"):
        log.prepare()


def test_the_command_prepares_an_event_log(log: Log, tmp_path: Path) -> None:
    log.segment(2, [record("a", "P1"), record("a", "P2")])
    arguments = ["prepare", str(log.folder), "--mapping", "events", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "Counted apart" in result.output
    again = [*arguments[:-1], str(tmp_path / "again"), "--products", str(tmp_path / "out")]
    assert CliRunner().invoke(app, again).exit_code == 0
