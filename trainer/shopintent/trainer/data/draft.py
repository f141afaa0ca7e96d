"""Drafts a mapping for a log from the names and values of its columns, to be read and corrected."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from shopintent.behavior.events import (
    ADD_TO_CART,
    FAVORITE,
    PURCHASE,
    REMOVE_FROM_CART,
    SEARCH,
    VIEW_CATEGORY,
    VIEW_PRODUCT,
)
from shopintent.trainer.data.samples import Sample

ROLES = {
    "event_time": r"time|date|^ts$|\.ts$|when|occurred|created|_dat$|^day$",
    "event_type": r"event$|event_?type|action|behaviou?r|^type$|\.type$|kind",
    "session_id": r"session|visit_?id|basket_?id",
    "shopper_id": r"user|visitor|customer|client|shopper|member|household|buyer|kunde",
    "product_id": r"item|product|sku|article|asin|^aid$|\.aid$|movie|stock_?code|goods|artikel",
    "search_query": r"query|search|keyword",
    "quantity": r"quantity|qty|units|menge",
    "title": r"title|name|description$",
    "brand": r"brand|manufacturer",
    "category": r"categor|department|aisle|genre|cat_?id|shelf",
    "price": r"price|preis|sales_?value",
}
"""What columns of a role are called, in lower case; the first role that fits is taken."""
NO_ID = r"name|title|desc|price|categor|type|brand|count|date|time|quantity|class|group"
"""Words in the names of columns that are about a shopper or a product but are not its id."""
MEANINGS = (
    (REMOVE_FROM_CART, r"remove|delete"),
    (ADD_TO_CART, r"cart|basket|bag|add"),
    (PURCHASE, r"buy|bought|purchase|transaction|order|checkout"),
    (FAVORITE, r"fav|wish|like|heart"),
    (SEARCH, r"search|query"),
    (VIEW_CATEGORY, r"categor|list"),
    (VIEW_PRODUCT, r"view|click|pv|open|detail|impression"),
)
"""What raw event types, and files of one type, are called."""
MAX_EVENT_TYPES = 40
STRPTIME = (
    "%Y%m%d",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
)
EPOCH_DIGITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
CHECK = "  # please check"


def draft_mapping(samples: Sequence[Sample], name: str) -> str:
    """Returns the TOML text of a mapping for the files; what could not be found says so."""
    roles = {sample.path: roles_of(sample) for sample in samples}
    sources = [each for each in samples if is_source(roles[each.path])]
    others = [each for each in samples if not is_source(roles[each.path])]
    catalogs = [each for each in others if "product_id" in roles[each.path]]
    lines = [
        "# A draft: read it beside your log, correct it, and remove what is wrong.",
        f"name = {_text(name)}",
        "format_version = 1",
    ]
    for sample in sources or samples[:1]:
        lines += ["", *_source_lines(sample, roles[sample.path])]
    if any({"session_id", "shopper_id"} <= set(roles[each.path]) for each in sources):
        lines += ["", "[session]", 'rule = "column"']
    if catalogs:
        lines += ["", *_catalog_lines(catalogs[0], roles[catalogs[0].path])]
    unused = [each.path.name for each in samples if each not in (*sources, *catalogs[:1])]
    if sources and unused:
        lines += ["", f"# Not used, join them where they help: {', '.join(unused)}"]
    return "\n".join(lines) + "\n"


def is_source(roles: dict[str, str]) -> bool:
    """Returns whether a file with such columns holds events."""
    somebody = "shopper_id" in roles or "session_id" in roles
    return somebody and "product_id" in roles


def roles_of(sample: Sample) -> dict[str, str]:
    """Returns which column may have which role, by names and values; each column has one."""
    roles: dict[str, str] = {}
    for role, pattern in ROLES.items():
        named = [
            column
            for column in sample.columns
            if re.search(pattern, column.lower()) and column not in roles.values()
        ]
        if fitting := [column for column in named if _fits(role, column, sample.columns[column])]:
            roles[role] = min(fitting, key=lambda each: _doubt(role, each, sample.columns[each]))
    return roles


def _doubt(role: str, column: str, values: list[str]) -> tuple[bool, bool, int]:
    """Days are no time beside a date; "id" in the name makes an id; short names say it plainest."""
    count = role == "event_time" and time_unit(values) == "days"
    return count, "id" not in column.lower(), len(column)


def _fits(role: str, column: str, values: list[str]) -> bool:
    if role in ("shopper_id", "product_id"):
        return bool(values) and not re.search(NO_ID, column.lower().split(".")[-1])
    if role == "event_type":
        return 0 < len(set(values)) <= MAX_EVENT_TYPES
    if role == "event_time":
        return time_unit(values) is not None
    return bool(values)


def time_unit(values: Sequence[str]) -> str | None:
    """Returns the unit of times written like these; None where they are no times."""
    first = values[0] if values else ""
    if re.match(r"\d{4}-\d{2}-\d{2}", first):
        return "iso"
    if re.fullmatch(r"\d+(\.\d+)?", first):
        digits = len(first.split(".")[0])
        if digits == 8:
            return "%Y%m%d"
        return EPOCH_DIGITS.get(digits, "days" if digits <= 4 else None)
    return next((unit for unit in STRPTIME if _all_read(values[:200], unit)), None)


def _all_read(values: Sequence[str], unit: str) -> bool:
    try:
        for value in values:
            datetime.strptime(value, unit)
    except ValueError:
        return False
    return bool(values)


def _source_lines(sample: Sample, roles: dict[str, str]) -> list[str]:
    lines = ["[[sources]]", f"files = {_text(sample.path.name)}", *_format_lines(sample)]
    types = sorted(set(sample.columns[roles["event_type"]])) if "event_type" in roles else []
    if not types:
        lines.append(f'event_type = "{_meaning(sample.path.name) or VIEW_PRODUCT}"{CHECK}')
    lines += ["", "[sources.columns]"]
    lines.append(_shopper_line(sample, roles))
    if "event_time" in roles:
        lines.append(_column("event_time", roles["event_time"], sample))
    for role in ("event_type", "product_id", "session_id", "search_query", "quantity"):
        if role in roles and not (role == "session_id" and "shopper_id" not in roles):
            lines.append(_column(role, roles[role], sample))
    unit = time_unit(sample.columns[roles["event_time"]]) if "event_time" in roles else None
    lines += ["", "[sources.time]", f'unit = "{unit or "order"}"']
    if unit in (None, "days"):
        lines[-1] += CHECK
    if unit == "days":
        lines.append('start = "2020-01-01"' + CHECK)
    if types:
        lines += ["", "[sources.event_types]"]
        default = "ignore" if any(map(_meaning, types)) else VIEW_PRODUCT
        for raw in types:
            meaning = _meaning(raw)
            lines.append(f'{_text(raw)} = "{meaning or default}"' + ("" if meaning else CHECK))
    attributes = _attribute_lines(sample, roles)
    return [*lines, "", "[sources.product]", *attributes] if attributes else lines


def _shopper_line(sample: Sample, roles: dict[str, str]) -> str:
    """A shopper who is not always known is the session where there is one."""
    shopper, session = roles.get("shopper_id"), roles.get("session_id")
    if shopper and session and len(sample.columns[shopper]) < sample.n_records:
        return f"shopper_id = [{_text(shopper)}, {_text(session)}]"
    return _column("shopper_id", shopper or session, sample)


def _catalog_lines(sample: Sample, roles: dict[str, str]) -> list[str]:
    lines = ["[catalog]", f"file = {_text(sample.path.name)}", *_format_lines(sample)]
    product_line = _column("product_id", roles["product_id"], sample)
    if {"property", "value"} <= set(sample.columns):
        lines += ["", "[catalog.properties]", 'name = "property"', 'value = "value"']
        named = dict.fromkeys(sample.columns["property"])
        sample = replace(sample, columns={name: ["?"] for name in named})
        roles = roles_of(sample)
    return [*lines, "", "[catalog.columns]", product_line, *_attribute_lines(sample, roles)]


def _attribute_lines(sample: Sample, roles: dict[str, str]) -> list[str]:
    names = ("title", "brand", "category", "price")
    return [_column(role, roles[role], sample) for role in names if role in roles]


def _format_lines(sample: Sample) -> list[str]:
    file_format, lines = sample.file_format, []
    if not file_format.has_header:
        lines += ["has_header = false", f"column_names = {json.dumps(list(sample.columns))}{CHECK}"]
    if file_format.delimiter and file_format.delimiter != ",":
        lines.append(f"delimiter = {_text(file_format.delimiter)}")
    if file_format.encoding != "utf-8":
        lines.append(f"encoding = {_text(file_format.encoding)}{CHECK}")
    if file_format.explode:
        lines.append(f"explode = {_text(file_format.explode)}")
    return lines


def _column(role: str, column: str | None, sample: Sample) -> str:
    if column is None:
        return f'{role} = "?"  # not found among: {", ".join(sample.columns)}'
    values = list(dict.fromkeys(sample.columns[column]))[:3]
    shown = ", ".join(value.replace("\n", " ")[:30] for value in values)
    return f"{role} = {_text(column)}  # {shown}"


def _meaning(raw: str) -> str | None:
    return next((each for each, words in MEANINGS if re.search(words, raw.lower())), None)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def mapping_name(log: Path) -> str:
    """Returns a name for the log's mapping."""
    return re.sub(r"[^a-z0-9]+", "-", log.resolve().name.split(".")[0].lower()).strip("-") or "log"
