"""`inspect` shows what a log holds and drafts its mapping, from little and even from dirt."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shopintent.trainer.__main__ import app
from shopintent.trainer.data.draft import roles_of, time_unit
from shopintent.trainer.data.mapping_file import load_mapping
from shopintent.trainer.data.samples import take_sample
from support.public_logs import SHAPES, acts


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)], terminal_width=200)


def test_inspect_writes_a_draft_that_is_a_mapping_and_never_overwrites_one(tmp_path: Path) -> None:
    log, draft = tmp_path / "log", tmp_path / "mapping.toml"
    log.mkdir()
    SHAPES["retailrocket"].write(log, acts(20))
    shown = inspect(log, "--out", draft)
    assert shown.exit_code == 0, shown.output
    for column in ("visitorid", "transactionid", "property", "parentid"):
        assert column in shown.output
    assert load_mapping(draft).sources[0].columns.shopper_id == ("visitorid",)
    again = inspect(log, "--out", draft)
    assert again.exit_code == 1
    assert "exists; give another file" in again.output


def test_inspect_prints_the_draft_when_no_file_is_given(tmp_path: Path) -> None:
    SHAPES["otto"].write(tmp_path, acts(20))
    shown = inspect(tmp_path / "train.jsonl")
    assert 'explode = "events"' in shown.output
    assert '"orders" = "purchase"' in shown.output


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no CSV, JSONL or Parquet file"),
        ("a.zip", b"PK", "holds no CSV, JSONL or Parquet file; unpack archives first"),
        ("a.jsonl", b"not json\n", "a.jsonl: holds no JSON objects"),
        ("a.json", b"[1, 2", "a.json: holds no JSON objects"),
    ],
)
def test_what_cannot_be_inspected_is_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    result = inspect(tmp_path)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert message in " ".join(result.output.split())


def test_a_broken_line_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"user": 1, "item": null}\n{"user": \n{"user": 2, "item": "a"}\n')
    assert take_sample(path).columns == {"user": ["1", "2"], "item": ["a"]}


def test_columns_without_a_header_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_text("1::2::5::978300760\n1::3::4::978300761\n")
    sample = take_sample(path)
    assert sample.file_format.delimiter == "::"
    assert sample.file_format.column_names == ("column_1", "column_2", "column_3", "column_4")


def test_a_column_has_one_role_and_names_of_things_are_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "Customer Name,Customer ID,item_price,item,created_at\nAnn,7,3.5,x,2024-05-01\n"
    )
    roles = roles_of(take_sample(path))
    assert roles["shopper_id"] == "Customer ID"
    assert (roles["product_id"], roles["price"]) == ("item", "item_price")
    assert roles["event_time"] == "created_at"


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("2021-03-01T00:00:05Z", "iso"),
        ("1614556800", "s"),
        ("1614556800.5", "s"),
        ("1614556800000", "ms"),
        ("20210301", "%Y%m%d"),
        ("01.03.2021 07:05", "%d.%m.%Y %H:%M"),
        ("711", "days"),
        ("morning", None),
    ],
)
def test_the_unit_of_a_time_is_told_from_how_it_is_written(value: str, unit: str | None) -> None:
    assert time_unit([value]) == unit
