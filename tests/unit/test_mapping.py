"""Mappings are read strictly: every mistake is named with its file, its key and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shopintent.trainer.data import MappingError, load_mapping
from shopintent.trainer.data.mapping_file import parse_mapping, shipped_mappings

SMALL = """
name = "small"
format_version = 1
[[sources]]
files = "*.csv"
[columns]
shopper_id = "user"
event_type = "type"
event_time = "time"
product_id = "item"
[event_types]
view = "view-product"
"""


def test_a_small_mapping_has_sane_defaults() -> None:
    mapping = parse_mapping(SMALL, "small.toml")
    assert mapping.session.rule == "gap"
    assert mapping.session.gap_minutes == 30
    assert mapping.cleaning.duplicates == "drop"
    assert mapping.sources[0].time.unit == "iso"
    assert mapping.sources[0].file_format.delimiter is None


@pytest.mark.parametrize("name", ["taobao", "rees46", "simulated"])
def test_shipped_mappings_are_found_by_name(name: str) -> None:
    assert name in shipped_mappings()
    assert load_mapping(name).name == name


def test_a_mapping_is_found_by_path(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    assert load_mapping(path).origin == str(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("shopper_id =", "shoper_id =", r"columns\.shopper_id: is missing"),
        ('product_id = "item"', 'produkt_id = "item"', r'produkt_id: .*Did you mean "product_id"'),
        ('"view-product"', '"view_product"', r'event_types\.view: .*Did you mean "view-product"'),
        (
            'files = "*.csv"',
            'files = "*.csv"\ndelimiter = 3',
            r"sources\[0\]\.delimiter: must be a",
        ),
        ('files = "*.csv"', "", r"sources\[0\]\.files: is missing"),
        ('files = "*.csv"', 'files = "*.csv"\nformat = "xml"', r"format: must be one of csv"),
        ('files = "*.csv"', 'files = "*.csv"\nhas_header = false', r"column_names: is missing"),
        ("format_version = 1", "format_version = 9", r"format_version: must be 1"),
        ("[columns]", '[time]\nunit = "sec"\n[columns]', r'time\.unit: must be one of "iso", "s"'),
        ("[columns]", '[time]\ntimezone = "CET2"\n[columns]', r"time\.timezone: .* is unknown"),
        (
            "[columns]",
            '[session]\nrule = "column"\n[columns]',
            r"no source names columns.session_id",
        ),
        (
            "[columns]",
            '[product]\ncurrency = "euro"\n[columns]',
            r"product\.currency: must be an ISO",
        ),
        ("[columns]", '[cleaning]\nearliest = "May"\n[columns]', r"earliest: must be an ISO time"),
        ("[columns]", "[cleaning]\nbots = true\n[columns]", r"cleaning\.bots: is not a known key"),
        ("[columns]", "[session]\ngap_minutes = 0\n[columns]", r"gap_minutes: must be a number of"),
        ("[columns]", "[colums]\n[columns]", r'colums: is not a known key.*Did you mean "columns"'),
        (
            "[columns]",
            '[time]\nunit = "iso"\nstart = "2020-01-01"\n[columns]',
            r"time\.start: is where",
        ),
        ('event_time = "time"\n', "", r'columns\.event_time: is missing.*unit = "order"'),
        ('view = "view-product"', '4.0 = "view-product"', r'write "4\.0" in quotes'),
        (
            'files = "*.csv"',
            'files = "*.csv"\nencoding = "utf-9"',
            r"sources\[0\]\.encoding: is unknown",
        ),
        (
            'files = "*.csv"',
            'files = "*.csv"\n[[sources.join]]\nfile = "a.csv"\non = "id"',
            r"sources\[0\]\.join\[0\]\.columns: is missing",
        ),
        ('event_type = "type"\n', "", r"event_type: give either columns.event_type or one"),
        ('[event_types]\nview = "view-product"', "", r"event_types: is missing"),
        ("name =", "name", r"small.toml: is not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_the_remedy(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(MappingError, match=message) as raised:
        parse_mapping(SMALL.replace(old, new), "small.toml")
    assert str(raised.value).startswith("small.toml: ")


def test_an_unknown_shipped_name_lists_what_there_is() -> None:
    with pytest.raises(MappingError, match='Did you mean "taobao"'):
        load_mapping("taoboa")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"nowhere\.toml: cannot be read"):
        load_mapping(tmp_path / "nowhere.toml")


def test_a_source_uses_its_own_tables_before_the_shared_ones() -> None:
    mapping = parse_mapping(
        SMALL
        + """
[[sources]]
files = "buys.csv"
event_type = "purchase"
[sources.columns]
shopper_id = "session"
event_time = "when"
product_id = "item"
[sources.time]
unit = "ms"
""",
        "two.toml",
    )
    clicks, buys = mapping.sources
    assert clicks.columns.shopper_id == ("user",)
    assert buys.columns.shopper_id == ("session",)
    assert buys.event_type == "purchase"
    assert (clicks.time.unit, buys.time.unit) == ("iso", "ms")


def test_the_mapping_in_the_readme_is_one() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", readme, flags=re.DOTALL)
    mapping = parse_mapping(example, "README.md")
    assert mapping.sources[0].columns.shopper_id == ("user_id", "session_id")
    assert mapping.sources[0].event_types["*"] == "ignore"
