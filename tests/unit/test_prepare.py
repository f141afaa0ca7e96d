"""Preparing a log: every bad row is dropped for one counted reason, and bad files are refused."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from shopintent.trainer.data import Dataset, DatasetError, PrepareError, prepare
from shopintent.trainer.data.mapping_file import parse_mapping

NOW = 1_700_000_000
HEADER = "user,type,time,item,cat,query,units,price,brand"
MAPPING = """
name = "test"
format_version = 1
[[sources]]
files = ["*.csv", "*.csv.gz", "*.jsonl", "*.parquet"]
[columns]
shopper_id = "user"
event_type = "type"
event_time = "time"
product_id = "item"
category = "cat"
search_query = "query"
quantity = "units"
[event_types]
view = "view-product"
list = "view-category"
search = "search"
buy = "purchase"
cart = "add-to-cart"
ping = "ignore"
[time]
unit = "s"
[product]
brand = "brand"
price = "price"
currency = "EUR"
"""
GOOD = [f"u{i},view,{NOW - 1000 + i},P{i},,,,9.5,Acme" for i in range(10)]


def run(
    folder: Path, lines: list[str] | bytes, mapping: str = MAPPING, rows_a_part: int = 1000
) -> Dataset:
    log = folder / "log"
    log.mkdir(exist_ok=True)
    if isinstance(lines, list):
        lines = ("\n".join([HEADER, *lines]) + "\n").encode()
    (log / "a.csv").write_bytes(lines)
    parsed = parse_mapping(mapping, "test.toml")
    return prepare(log, parsed, folder / "out", now=NOW, rows_a_part=rows_a_part)


def dropped(dataset: Dataset) -> dict[str, int]:
    report = dataset.report()
    assert report["rows_in"] == report["rows_out"] + sum(report["dropped"].values())
    return {reason: n for reason, n in report["dropped"].items() if n}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"u,view,{NOW},P1,,,", "malformed line"),
        (f"u,view,{NOW},P1,,,,1,Acme,more", "malformed line"),
        (f'u,search,{NOW},,,"open quote,,,', "malformed line"),
        (f",view,{NOW},P1,,,,,", "missing shopper"),
        (f"null,view,{NOW},P1,,,,,", "missing shopper"),
        ("u,view,,P1,,,,,", "missing or unreadable time"),
        ("u,view,noon,P1,,,,,", "missing or unreadable time"),
        ("u,view,NaN,P1,,,,,", "missing or unreadable time"),
        ("u,view,915148800,P1,,,,,", "time out of range"),
        (f"u,view,{NOW + 1},P1,,,,,", "time out of range"),
        (f"u,view,{NOW * 1000},P1,,,,,", "time out of range"),
        (f"u,scroll,{NOW},P1,,,,,", "unknown event type"),
        (f"u,,{NOW},P1,,,,,", "unknown event type"),
        (f"u,ping,{NOW},P1,,,,,", "ignored event type"),
        (f"u,view,{NOW},,,,,,", "missing product"),
        (f"u,buy,{NOW},P1,,,-1,,", "invalid quantity"),
        (f"u,buy,{NOW},P1,,,NaN,,", "invalid quantity"),
        (f"u,cart,{NOW},P1,,,many,,", "invalid quantity"),
        (GOOD[3], "duplicate"),
    ],
)
def test_a_bad_row_is_dropped_for_one_reason(tmp_path: Path, line: str, reason: str) -> None:
    dataset = run(tmp_path, [*GOOD, line])
    assert dropped(dataset) == {reason: 1}
    assert dataset.info.n_events == len(GOOD)


def test_a_truncated_last_line_costs_only_itself(tmp_path: Path) -> None:
    dataset = run(tmp_path, ("\n".join([HEADER, *GOOD]) + "\nu9,view,17000").encode())
    assert dropped(dataset) == {"malformed line": 1}


@pytest.mark.parametrize("price", ["-1", "0", "NaN", "free", "1e300"])
def test_a_price_that_is_none_is_unknown_and_keeps_the_event(tmp_path: Path, price: str) -> None:
    dataset = run(tmp_path, [*GOOD, f"u,view,{NOW},P99,,,,{price},Acme"])
    assert dropped(dataset) == {}
    product = next(product for product in dataset.products() if product.product_id == "P99")
    assert product.price is None
    assert product.currency == ""
    assert any("no price" in warning for warning in dataset.report()["warnings"])


def test_invalid_utf8_is_replaced_and_counted(tmp_path: Path) -> None:
    text = ("\n".join([HEADER, *GOOD, f"u,search,{NOW},,,CAFE,,,"]) + "\n").encode()
    dataset = run(tmp_path, text.replace(b"CAFE", b"caf\xe9"))
    assert "caf\ufffd" in dataset.events().collect()["search_query"].to_list()
    assert any("1 lines with invalid UTF-8" in w for w in dataset.report()["warnings"])


def test_windows_line_ends_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    text = "\ufeff" + "\r\n".join([HEADER, *GOOD[:5], "", *GOOD[5:], ""]) + "\r\n"
    dataset = run(tmp_path, text.encode())
    assert dropped(dataset) == {}
    assert dataset.info.n_events == len(GOOD)


def test_quoted_fields_may_hold_the_delimiter(tmp_path: Path) -> None:
    dataset = run(tmp_path, [*GOOD, f'u,search,{NOW},,,"red, ""big"" kettle",,,'])
    assert 'red, "big" kettle' in dataset.events().collect()["search_query"].to_list()


def test_a_bot_is_dropped_with_all_its_events(tmp_path: Path) -> None:
    people = [f"u{i},view,{NOW - 5000 + i},P{i % 9},,,,1,Acme" for i in range(400)]
    bot = [f"bot,view,{NOW - 3000 + i},P{i % 50},,,,1,Acme" for i in range(360)]
    dataset = run(tmp_path, people + bot)
    assert dropped(dataset) == {"bot": 360}
    assert any("1 shoppers were taken for bots" in w for w in dataset.report()["warnings"])


def test_whoever_buys_whole_orders_at_once_is_no_bot(tmp_path: Path) -> None:
    lines = [f"shop,buy,{NOW - 9000 + i // 40 * 60},P{i},,,2,3,Acme" for i in range(400)]
    dataset = run(tmp_path, GOOD + lines)
    assert dropped(dataset) == {}
    assert dataset.info.n_events == len(GOOD) + 400


def test_limits_on_bots_can_be_switched_off(tmp_path: Path) -> None:
    bot = [f"bot,view,{NOW - 3000 + i},P{i % 50},,,,1,Acme" for i in range(360)]
    mapping = MAPPING + "[cleaning]\nmax_events_per_minute = 0\n"
    assert run(tmp_path, GOOD + bot, mapping).info.n_events == 370


def test_unknown_event_types_are_counted_by_value(tmp_path: Path) -> None:
    dataset = run(tmp_path, [*GOOD, *[f"u,scroll,{NOW - i},P1,,,,," for i in range(3)]])
    (file,) = dataset.report()["files"]
    assert file["unknown_event_types"] == {"scroll": 3}


def test_milliseconds_in_a_log_of_seconds_are_found_and_explained(tmp_path: Path) -> None:
    milliseconds = [f"m{i},view,{(NOW - i) * 1000},P1,,,,," for i in range(4)]
    dataset = run(tmp_path, GOOD + milliseconds)
    assert dropped(dataset) == {"time out of range": 4}
    assert any("time.unit" in warning for warning in dataset.report()["warnings"])


def refused(folder: Path, lines: list[str] | bytes, mapping: str = MAPPING) -> str:
    with pytest.raises(PrepareError) as raised:
        run(folder, lines, mapping)
    assert not (folder / "out").exists()
    assert not list(folder.glob(".out*"))
    return str(raised.value)


def test_a_log_that_mostly_drops_for_one_reason_is_refused_with_the_remedy(tmp_path: Path) -> None:
    message = refused(tmp_path, [line.replace(",1699", ",1699000") for line in GOOD])
    assert "10 of 10 rows drop as time out of range" in message
    assert "time.unit" in message
    assert "a.csv" in message


def test_a_log_in_which_no_reason_stands_out_but_nothing_is_left_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, [f",view,{NOW},P1,,,,,", "u,view,noon,P1,,,,,"])
    assert "nothing is left (1 missing shopper; 1 missing or unreadable time)" in message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "a.csv: is empty" in refused(tmp_path, b"")


def test_a_file_with_a_header_alone_is_refused(tmp_path: Path) -> None:
    assert "a.csv: no rows" in refused(tmp_path, [])


def test_a_missing_column_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    message = refused(tmp_path, ("\n".join(["users" + HEADER[4:], *GOOD])).encode())
    assert 'a.csv: has no column "user"' in message
    assert 'Did you mean "users"' in message


def test_a_folder_without_matching_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"no file matches \*\.csv"):
        prepare(tmp_path, parse_mapping(MAPPING, "test.toml"), tmp_path / "out")


def test_a_log_of_bots_alone_is_refused(tmp_path: Path) -> None:
    lines = [f"bot,view,{NOW - 3000 + i},P{i % 50},,,,1,Acme" for i in range(360)]
    assert "max_events_per_day" in refused(tmp_path, lines)


def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    (log / "a.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(PrepareError, match=r"a\.parquet: is not readable Parquet"):
        prepare(log, parse_mapping(MAPPING, "test.toml"), tmp_path / "out")


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("keep me")
    with pytest.raises(PrepareError, match="is no prepared dataset"):
        run(tmp_path, GOOD)
    assert (tmp_path / "out" / "precious.txt").read_text() == "keep me"


def test_an_existing_dataset_is_replaced_whole(tmp_path: Path) -> None:
    run(tmp_path, GOOD)
    dataset = run(tmp_path, GOOD[:4])
    assert dataset.info.n_events == 4
    assert not list(tmp_path.glob(".out*"))


def test_an_existing_dataset_survives_a_failure(tmp_path: Path) -> None:
    run(tmp_path, GOOD)
    with pytest.raises(PrepareError):
        run(tmp_path, [])
    assert Dataset.open(tmp_path / "out").info.n_events == len(GOOD)


def test_files_packed_with_gzip_and_other_formats_are_merged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    (log / "b.csv.gz").write_bytes(gzip.compress(("\n".join([HEADER, *GOOD[:2]])).encode()))
    record = {"user": "j", "type": "buy", "time": NOW - 9, "item": "P1", "units": 2, "price": 3.5}
    (log / "c.jsonl").write_text(json.dumps(record) + "\nnot json\n" + json.dumps({"user": 1})[:5])
    columns: dict[str, list[object]] = {name: [None] for name in HEADER.split(",")}
    columns |= {"user": [7.0], "type": ["view"], "time": [NOW - 5], "item": [12]}
    pl.DataFrame(columns).write_parquet(log / "d.parquet")
    more = [json.dumps(record | {"time": NOW - i}) for i in range(20, 24)]
    (log / "e.jsonl").write_text("\n".join(more))
    dataset = run(tmp_path, GOOD[2:])
    assert dataset.info.n_events == 10 + 1 + 1 + 4
    assert dropped(dataset) == {"malformed line": 2}
    events = dataset.events().collect()
    assert {"j", "7"} <= set(events["shopper_id"])
    assert events.filter(pl.col("event_type") == "purchase")["quantity"].to_list() == [2] * 5


def test_many_small_parts_give_the_same_dataset_as_one(tmp_path: Path) -> None:
    lines = [
        f"u{i % 17},{'buy' if i % 7 == 0 else 'view'},{NOW - 90000 + i * 137},P{i % 23},,,,{i},B"
        for i in range(600)
    ]
    whole = run(tmp_path, lines)
    tables = [whole.events().collect(), whole.sessions().collect(), whole.product_table().collect()]
    parts = run(tmp_path, lines, rows_a_part=50)
    again = [parts.events().collect(), parts.sessions().collect(), parts.product_table().collect()]
    for table, other in zip(tables, again, strict=True):
        assert table.equals(other)


def test_the_latest_attributes_of_a_product_win(tmp_path: Path) -> None:
    lines = [f"u,view,{NOW - 5},P1,,,,7.5,New", f"u,view,{NOW - 50},P1,,,,9,Old", *GOOD[2:]]
    product = next(iter(run(tmp_path, lines).products()))
    assert (product.product_id, product.brand, product.price) == ("P1", "New", Decimal("7.5"))


def test_progress_reaches_the_end_of_every_step(tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}
    run(tmp_path, GOOD)
    prepare(
        tmp_path / "log",
        parse_mapping(MAPPING, "test.toml"),
        tmp_path / "out",
        lambda step, done, total: seen.update({step: (done, total)}),
        now=NOW,
    )
    assert {"read a.csv", "label"} <= set(seen)
    assert all(done <= total for done, total in seen.values())


def test_a_folder_that_is_no_dataset_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no prepared dataset"):
        Dataset.open(tmp_path)


def test_a_dataset_of_another_format_or_damaged_is_not_opened(tmp_path: Path) -> None:
    folder = run(tmp_path, GOOD).folder
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(info | {"format_version": 0}))
    with pytest.raises(DatasetError, match="format version 0"):
        Dataset.open(folder)
    (folder / "dataset.json").write_text(json.dumps(info))
    (folder / "sessions.parquet").unlink()
    with pytest.raises(DatasetError, match=r"sessions\.parquet: is missing"):
        Dataset.open(folder)
