"""Writes simulated events as a shop would export them: two logs unlike each other, a catalog, and
the dirt that real exports have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from shopintent.behavior.events import (
    ADD_TO_CART,
    FAVORITE,
    PURCHASE,
    REMOVE_FROM_CART,
    SEARCH,
    VIEW_CATEGORY,
    VIEW_PRODUCT,
)
from shopintent.trainer.data.simulated_catalog import SimulatedCatalog
from shopintent.trainer.data.simulated_visits import SimulatedEvent

WEB_COLUMNS = ("timestamp", "visitor", "event", "sku", "page", "query", "units", "price")
WEB_EVENTS = {
    VIEW_PRODUCT: "view_item",
    VIEW_CATEGORY: "view_item_list",
    SEARCH: "search",
    FAVORITE: "add_to_wishlist",
    ADD_TO_CART: "add_to_cart",
    REMOVE_FROM_CART: "remove_from_cart",
    PURCHASE: "purchase",
}
APP_EVENTS = {
    VIEW_PRODUCT: "product_open",
    VIEW_CATEGORY: "category_open",
    SEARCH: "search_submit",
    FAVORITE: "heart",
    ADD_TO_CART: "cart_add",
    REMOVE_FROM_CART: "cart_remove",
    PURCHASE: "order",
}
FUTURE = 4_070_908_800
"""2099-01-01: the clock of a broken device."""


def write_catalog(path: Path, catalog: SimulatedCatalog) -> None:
    """Writes catalog.csv."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ("sku", "title", "description", "brand", "category", "price", "currency", "in_stock")
        )
        for i, sku in enumerate(catalog.ids):
            writer.writerow(
                (
                    sku,
                    catalog.titles[i],
                    catalog.descriptions[i],
                    catalog.brands[i],
                    catalog.shelves[catalog.shelf[i]].path,
                    f"{catalog.price[i]:.2f}",
                    "EUR",
                    "yes" if catalog.in_stock[i] else "no",
                )
            )


def write_web_log(
    path: Path, events: Sequence[SimulatedEvent], catalog: SimulatedCatalog, random: Random
) -> None:
    """Writes events-web.csv, with page views that mean nothing and a share of dirt."""
    lines = [_csv_line(_web_row(event, catalog)) for event in events]
    lines = _with_noise(lines, _dirty_web_line, _web_noise, events, random)
    body = _csv_line(WEB_COLUMNS) + b"".join(lines)
    # The export was copied while it was written.
    path.write_bytes(body + b"2099-01-01T00:0")


def write_app_log(
    path: Path, events: Sequence[SimulatedEvent], catalog: SimulatedCatalog, random: Random
) -> None:
    """Writes events-app.jsonl; times are milliseconds and fields are nested."""
    lines = [_json_line(_app_record(event, catalog)) for event in events]
    lines = _with_noise(lines, _dirty_app_line, _app_noise, events, random)
    path.write_bytes(b"".join(lines) + b'{"ts": 1')


def _web_row(event: SimulatedEvent, catalog: SimulatedCatalog) -> tuple[str, ...]:
    has_product = event.product >= 0
    return (
        _iso(event.time),
        event.shopper,
        WEB_EVENTS[event.event_type],
        catalog.ids[event.product] if has_product else "",
        event.category.replace(" > ", "/"),
        event.query,
        str(event.quantity) if event.quantity else "",
        f"{catalog.price[event.product]:.2f}" if has_product else "",
    )


def _app_record(event: SimulatedEvent, catalog: SimulatedCatalog) -> dict[str, Any]:
    record: dict[str, Any] = {
        "ts": event.time * 1000 + event.product % 1000,
        "user": {"id": event.shopper},
        "action": APP_EVENTS[event.event_type],
    }
    if event.product >= 0:
        record["item"] = {
            "id": catalog.ids[event.product],
            "price": float(catalog.price[event.product]),
        }
    if event.category:
        record["category"] = event.category.replace(" > ", "/")
    if event.query:
        record["q"] = event.query
    if event.quantity:
        record["units"] = event.quantity
    return record


def _with_noise(
    lines: list[bytes],
    dirty: Any,
    noise: Any,
    events: Sequence[SimulatedEvent],
    random: Random,
) -> list[bytes]:
    """Returns the lines with one in 200 repeated, one in 100 followed by dirt, one in 25 by noise
    that the mapping ignores."""
    result: list[bytes] = []
    for line, event in zip(lines, events, strict=True):
        result.append(line)
        draw = random.random()
        if draw < 0.005:
            result.append(line)
        elif draw < 0.015:
            result.append(dirty(event, random))
        elif draw < 0.055:
            result.append(noise(event))
    return result


def _web_noise(event: SimulatedEvent) -> bytes:
    return _csv_line((_iso(event.time), event.shopper, "page_view", "", "/", "", "", ""))


def _app_noise(event: SimulatedEvent) -> bytes:
    return _json_line({"ts": event.time * 1000, "user": {"id": event.shopper}, "action": "ping"})


def _dirty_web_line(event: SimulatedEvent, random: Random) -> bytes:
    time, who = _iso(event.time), event.shopper
    return random.choice(
        (
            _csv_line((_iso(FUTURE), who, "view_item", "P100001", "", "", "", "9.99")),
            _csv_line((time, "", "view_item", "P100002", "", "", "", "9.99")),
            _csv_line((time, who, "view_item", "", "", "", "", "")),
            _csv_line((time, who, "purchase", "P100003", "", "", "-1", "9.99")),
            _csv_line((time, who, "view_item", "P100004", "", "", "", "-1.00")),
            _csv_line(("yesterday", who, "view_item", "P100005", "", "", "", "9.99")),
            _csv_line((time, who, "scroll", "P100006", "", "", "", "")),
            _csv_line((time, who, "search", "", "", "caf\xe9 creme", "", ""))
            .decode()
            .encode("latin-1"),
            f"{time},{who},view_item\n".encode(),
        )
    )


def _dirty_app_line(event: SimulatedEvent, random: Random) -> bytes:
    time, user = event.time * 1000, {"id": event.shopper}
    item = {"id": "P100007", "price": 9.99}
    return random.choice(
        (
            # Seconds where milliseconds belong: 1970.
            _json_line({"ts": event.time, "user": user, "action": "product_open", "item": item}),
            _json_line({"ts": time, "user": {}, "action": "product_open", "item": item}),
            _json_line({"ts": time, "user": user, "action": "product_open"}),
            _json_line({"ts": time, "user": user, "action": "order", "item": item, "units": -2}),
            _json_line({"ts": time, "user": user, "action": "shake", "item": item}),
            b'{"ts": ' + str(time).encode() + b', "user": {"id": "u\n',
        )
    )


def _csv_line(row: Sequence[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row)
    return buffer.getvalue().encode("utf-8")


def _json_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8") + b"\n"


def _iso(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
