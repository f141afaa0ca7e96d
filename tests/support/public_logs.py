"""Logs in the shapes of well-known public ones, with the mapping that a new user would write.

All tell of the same made-up shoppers, who walk along a shelf and sometimes buy what they just saw.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

START = int(datetime(2021, 3, 1, tzinfo=UTC).timestamp())
DAY_S = 86_400
N_PRODUCTS = 60
N_SHELVES = 6
VIEW, CART, BUY = "view", "cart", "buy"


@dataclass(frozen=True)
class Act:
    """One event of the made-up shoppers."""

    shopper: int
    session: int
    time: int
    kind: str
    product: int


@dataclass(frozen=True)
class Shape:
    """A public log: writes its files into a folder; what a right mapping makes of them."""

    write: Callable[[Path, list[Act]], None]
    mapping: str
    event_types: tuple[str, ...] = ("view-product", "add-to-cart", "purchase")
    kept: Callable[[Act], bool] = lambda act: True
    """Which acts the log holds."""
    session_rule: str = "gap"


def acts(n_shoppers: int = 150, *, seed: int = 1, days: int = 20) -> list[Act]:
    """Returns what everybody does, by time."""
    rng = np.random.default_rng(seed)
    done: list[Act] = []
    session = 0
    for shopper in range(1, n_shoppers + 1):
        for _ in range(int(rng.integers(1, 5))):
            session += 1
            time = START + int(rng.integers(0, days * DAY_S))
            product = int(rng.integers(N_PRODUCTS))
            for _ in range(int(rng.integers(2, 9))):
                time += int(rng.integers(5, 200))
                product = product // 10 * 10 + (product + 1) % 10
                done.append(Act(shopper, session, time, VIEW, product))
                if rng.random() < 0.3:
                    done.append(Act(shopper, session, time + 2, CART, product))
                    if rng.random() < 0.5:
                        done.append(Act(shopper, session, time + 4, BUY, product))
    return sorted(done, key=lambda act: (act.time, act.shopper))


def table(header: str | None, rows: Iterable[str], *, end: str = "\n") -> str:
    """Returns lines, under a header where there is one."""
    return end.join([*([header] if header else []), *rows]) + end


def iso(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.277Z")


def day(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")


# Nested JSON: a session a line, its events in a list; the session is the shopper.


def write_otto(folder: Path, done: list[Act]) -> None:
    names = {VIEW: "clicks", CART: "carts", BUY: "orders"}
    sessions: dict[int, list[dict[str, object]]] = {}
    for act in done:
        event = {"aid": act.product, "ts": act.time * 1000, "type": names[act.kind]}
        sessions.setdefault(act.session, []).append(event)
    lines = [json.dumps({"session": key, "events": events}) for key, events in sessions.items()]
    (folder / "train.jsonl").write_text(table(None, lines))


OTTO = """
name = "otto"
format_version = 1
[[sources]]
files = "train.jsonl"
explode = "events"
[columns]
shopper_id = "session"
event_time = "events.ts"
event_type = "events.type"
product_id = "events.aid"
[event_types]
clicks = "view-product"
carts = "add-to-cart"
orders = "purchase"
[time]
unit = "ms"
"""


def write_otto_parquet(folder: Path, done: list[Act]) -> None:
    rows: dict[int, list[dict[str, object]]] = {}
    for act in done:
        rows.setdefault(act.session, []).append(
            {"aid": act.product, "ts": act.time, "type": act.kind}
        )
    frame = pl.DataFrame({"session": list(rows), "events": list(rows.values())})
    frame.write_parquet(folder / "train.parquet")


OTTO_PARQUET = (
    OTTO.replace("train.jsonl", "*.parquet")
    .replace('"ms"', '"s"')
    .replace("clicks", "view")
    .replace("carts", "cart")
    .replace("orders", "buy")
)


# Clicks and buys in two files without a header, a session for a shopper, no types.


def write_yoochoose(folder: Path, done: list[Act]) -> None:
    clicks = [
        f"{a.session},{iso(a.time)},{a.product},{a.product // 10 if a.product % 7 else 'S'}"
        for a in done
        if a.kind == VIEW
    ]
    buys = [
        f"{a.session},{iso(a.time)},{a.product},{a.product * 100},1" for a in done if a.kind == BUY
    ]
    (folder / "yoochoose-clicks.dat").write_text(table(None, clicks))
    (folder / "yoochoose-buys.dat").write_text(table(None, buys))


YOOCHOOSE = """
name = "yoochoose"
format_version = 1
[[sources]]
files = "yoochoose-clicks.dat"
has_header = false
column_names = ["session", "time", "item", "category"]
event_type = "view-product"
[sources.columns]
shopper_id = "session"
event_time = "time"
product_id = "item"
[sources.product]
category = "category"
[[sources]]
files = "yoochoose-buys.dat"
has_header = false
column_names = ["session", "time", "item", "price", "quantity"]
event_type = "purchase"
[sources.columns]
shopper_id = "session"
event_time = "time"
product_id = "item"
quantity = "quantity"
[sources.product]
price = "price"
"""


# Properties of products in long form, hashed, in two files, with a time each.


def write_retailrocket(folder: Path, done: list[Act]) -> None:
    names = {VIEW: "view", CART: "addtocart", BUY: "transaction"}
    events = [
        f"{a.time * 1000},{a.shopper},{names[a.kind]},{a.product},"
        + (str(a.session) if a.kind == BUY else "")
        for a in done
    ]
    (folder / "events.csv").write_text(
        table("timestamp,visitorid,event,itemid,transactionid", events)
    )
    header = "timestamp,itemid,property,value"
    old = [f"1433041200000,{p},categoryid,9999" for p in range(N_PRODUCTS)]
    new = [f"1435460400000,{p},categoryid,{p // 10}" for p in range(N_PRODUCTS)]
    price = [f"1435460400000,{p},790,n{p + 1}.000" for p in range(N_PRODUCTS)]
    noise = [f"1435460400000,{p},888,1116713 960601 n277.200" for p in range(N_PRODUCTS)]
    stock = [f"1435460400000,{p},available,{int(p % 5 > 0)}" for p in range(N_PRODUCTS)]
    (folder / "item_properties_part1.csv").write_text(table(header, [*new, *price, *noise]))
    (folder / "item_properties_part2.csv").write_text(table(header, [*old, *stock]))
    tree = [f"{shelf},{100 + shelf % 2}" for shelf in range(N_SHELVES)]
    (folder / "category_tree.csv").write_text(table("categoryid,parentid", tree))


RETAILROCKET = """
name = "retailrocket"
format_version = 1
[[sources]]
files = "events.csv"
[columns]
shopper_id = "visitorid"
event_time = "timestamp"
event_type = "event"
product_id = "itemid"
[event_types]
view = "view-product"
addtocart = "add-to-cart"
transaction = "purchase"
[time]
unit = "ms"
[catalog]
file = "item_properties_part*.csv"
[catalog.properties]
name = "property"
value = "value"
time = "timestamp"
[[catalog.join]]
file = "category_tree.csv"
on = "categoryid"
columns = "parentid"
[catalog.columns]
product_id = "itemid"
category = ["parentid", "categoryid"]
price = "790"
in_stock = "available"
"""


# Semicolons, a user on few rows only, milliseconds since the session began and the day beside.


def write_diginetica(folder: Path, done: list[Act]) -> None:
    first: dict[int, int] = {}
    for a in done:
        first.setdefault(a.session, a.time)
    views, purchases = [], []
    for a in done:
        user = str(a.shopper) if a.shopper % 3 == 0 else "NA"
        since, date = (a.time - first[a.session]) * 1000, day(first[a.session])
        if a.kind == VIEW:
            views.append(f"{a.session};{user};{a.product};{since};{date}")
        elif a.kind == BUY:
            purchases.append(f"{a.session};{user};{since};{date};{a.session + 5};{a.product}")
    (folder / "train-item-views.csv").write_text(
        table("sessionId;userId;itemId;timeframe;eventdate", views)
    )
    (folder / "train-purchases.csv").write_text(
        table("sessionId;userId;timeframe;eventdate;ordernumber;itemId", purchases)
    )
    products = [f"{p};{5 + p % 4};{p},{p + 1},77" for p in range(N_PRODUCTS)]
    (folder / "products.csv").write_text(table("itemId;pricelog2;product.name.tokens", products))
    categories = [f"{p};{p // 10}" for p in range(N_PRODUCTS)]
    (folder / "product-categories.csv").write_text(table("itemId;categoryId", categories))


DIGINETICA = """
name = "diginetica"
format_version = 1
[[sources]]
files = "train-item-views.csv"
event_type = "view-product"
[[sources]]
files = "train-purchases.csv"
event_type = "purchase"
[columns]
shopper_id = ["userId", "sessionId"]
session_id = "sessionId"
event_time = "eventdate"
order = "timeframe"
product_id = "itemId"
[session]
rule = "column"
[catalog]
file = "products.csv"
[[catalog.join]]
file = "product-categories.csv"
on = "itemId"
columns = "categoryId"
[catalog.columns]
product_id = "itemId"
category = "categoryId"
price = "pricelog2"
"""


# Types as numbers, the day without its year.


def write_tmall(folder: Path, done: list[Act]) -> None:
    numbers = {VIEW: 0, CART: 1, BUY: 2}
    rows = []
    for a in done:
        month_day = datetime.fromtimestamp(a.time, UTC).strftime("%m%d").lstrip("0")
        rows.append(f"{a.shopper},{a.product},{a.product // 10},3,8,{month_day},{numbers[a.kind]}")
    (folder / "user_log_format1.csv").write_text(
        table("user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type", rows)
    )


TMALL = """
name = "tmall"
format_version = 1
[[sources]]
files = "user_log_format1.csv"
[columns]
shopper_id = "user_id"
event_time = "time_stamp"
event_type = "action_type"
product_id = "item_id"
[event_types]
0 = "view-product"
1 = "add-to-cart"
2 = "purchase"
[time]
unit = "%Y%m%d"
prefix = "2021"
digits = 4
[product]
category = "cat_id"
brand = "brand_id"
[cleaning]
duplicates = "keep"
"""


# Lines of orders; who ordered, and in which order, is in another file; there are no times.


def write_instacart(folder: Path, done: list[Act]) -> None:
    orders: dict[int, str] = {}
    lines: list[str] = []
    numbers: dict[int, int] = {}
    for a in sorted(done, key=lambda a: (a.shopper, a.time)):
        if a.kind != VIEW:
            continue
        if a.session not in orders:
            numbers[a.shopper] = numbers.get(a.shopper, 0) + 1
            orders[a.session] = f"{a.session},{a.shopper},prior,{numbers[a.shopper]},2,08,7.0"
        position = sum(line.startswith(f"{a.session},") for line in lines) + 1
        lines.append(f"{a.session},{a.product},{position},1")
    (folder / "orders.csv").write_text(
        table(
            "order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,"
            "days_since_prior_order",
            orders.values(),
        )
    )
    (folder / "order_products__prior.csv").write_text(
        table("order_id,product_id,add_to_cart_order,reordered", lines)
    )
    products = [f'{p},"Fresh Fruit, kind {p}",{p // 10},{p // 30}' for p in range(N_PRODUCTS)]
    (folder / "products.csv").write_text(
        table("product_id,product_name,aisle_id,department_id", products)
    )
    aisles = [f"{a},aisle {a}" for a in range(N_SHELVES)]
    (folder / "aisles.csv").write_text(table("aisle_id,aisle", aisles))
    (folder / "departments.csv").write_text(
        table("department_id,department", ["0,produce", "1,snacks"])
    )


INSTACART = """
name = "instacart"
format_version = 1
[[sources]]
files = "order_products__*.csv"
event_type = "purchase"
[[sources.join]]
file = "orders.csv"
on = "order_id"
columns = ["user_id", "order_number"]
[columns]
shopper_id = "user_id"
event_time = "order_number"
order = "add_to_cart_order"
product_id = "product_id"
[time]
unit = "order"
[catalog]
file = "products.csv"
[[catalog.join]]
file = "aisles.csv"
on = "aisle_id"
columns = "aisle"
[[catalog.join]]
file = "departments.csv"
on = "department_id"
columns = "department"
[catalog.columns]
product_id = "product_id"
title = "product_name"
category = ["department", "aisle"]
"""


# Baskets by number of day, with the time of day as HHMM and the products in capitals.


def write_dunnhumby(folder: Path, done: list[Act]) -> None:
    rows = []
    for a in done:
        if a.kind == VIEW:
            clock = datetime.fromtimestamp(a.time, UTC).strftime("%H%M")
            number = (a.time - START) // DAY_S + 1
            rows.append(f"{a.shopper},{a.session},{number},{a.product},1,1.39,364,-0.6,{clock},1")
    (folder / "transaction_data.csv").write_text(
        table(
            "household_key,BASKET_ID,DAY,PRODUCT_ID,QUANTITY,SALES_VALUE,STORE_ID,RETAIL_DISC,"
            "TRANS_TIME,WEEK_NO",
            rows,
        )
    )
    products = [f"{p},2,GROCERY,National,FRZN ICE,ICE {p // 10},22 LB" for p in range(N_PRODUCTS)]
    (folder / "product.csv").write_text(
        table(
            "PRODUCT_ID,MANUFACTURER,DEPARTMENT,BRAND,COMMODITY_DESC,SUB_COMMODITY_DESC,"
            "CURR_SIZE_OF_PRODUCT",
            products,
        )
    )


DUNNHUMBY = """
name = "dunnhumby"
format_version = 1
[[sources]]
files = "transaction_data.csv"
event_type = "purchase"
[columns]
shopper_id = "household_key"
session_id = "BASKET_ID"
event_time = "DAY"
order = "TRANS_TIME"
product_id = "PRODUCT_ID"
quantity = "QUANTITY"
[time]
unit = "days"
start = "2021-03-01"
[session]
rule = "column"
[product]
price = "SALES_VALUE"
currency = "USD"
[catalog]
file = "product.csv"
[catalog.columns]
product_id = "PRODUCT_ID"
category = ["DEPARTMENT", "COMMODITY_DESC", "SUB_COMMODITY_DESC"]
brand = "BRAND"
"""


# Only purchases, by day; long ids with leading zeros; gzip; a catalog with line-long texts.


def write_hm(folder: Path, done: list[Act]) -> None:
    rows = [
        f"{day(a.time)},{a.shopper:064x},{a.product:010d},0.0508305084745763,2"
        for a in done
        if a.kind == BUY
    ]
    text = table("t_dat,customer_id,article_id,price,sales_channel_id", rows)
    (folder / "transactions_train.csv.gz").write_bytes(gzip.compress(text.encode()))
    articles = [
        f'{p:010d},"Strap top, no. {p}",Vest top,Jersey Basic,"Jersey top with ""narrow"" straps."'
        for p in range(N_PRODUCTS)
    ]
    (folder / "articles.csv").write_text(
        table("article_id,prod_name,product_type_name,department_name,detail_desc", articles)
    )


HM = """
name = "hm"
format_version = 1
[[sources]]
files = "transactions_train.csv.gz"
event_type = "purchase"
[columns]
shopper_id = "customer_id"
event_time = "t_dat"
product_id = "article_id"
[product]
price = "price"
[cleaning]
duplicates = "keep"
[catalog]
file = "articles.csv"
[catalog.columns]
product_id = "article_id"
title = "prod_name"
description = "detail_desc"
category = ["department_name", "product_type_name"]
"""


# Ratings for events, a delimiter of two characters, another encoding.


def write_movielens(folder: Path, done: list[Act]) -> None:
    rows = [
        f"{a.shopper}::{a.product}::{1 + a.product % 5}::{a.time}" for a in done if a.kind == VIEW
    ]
    (folder / "ratings.dat").write_text(table(None, rows))
    films = [f"{p}::Amélie {p} (1995)::Animation|Children's" for p in range(N_PRODUCTS)]
    (folder / "movies.dat").write_bytes(table(None, films).encode("latin-1"))


MOVIELENS = """
name = "movielens"
format_version = 1
[[sources]]
files = "ratings.dat"
has_header = false
column_names = ["UserID", "MovieID", "Rating", "Timestamp"]
delimiter = "::"
[columns]
shopper_id = "UserID"
event_time = "Timestamp"
event_type = "Rating"
product_id = "MovieID"
[event_types]
5 = "favorite"
"*" = "view-product"
[time]
unit = "s"
[catalog]
file = "movies.dat"
has_header = false
column_names = ["MovieID", "Title", "Genres"]
delimiter = "::"
encoding = "latin-1"
[catalog.columns]
product_id = "MovieID"
title = "Title"
category = "Genres"
category_separator = "|"
"""


# A spreadsheet's export: BOM, semicolons, decimal commas, names with spaces, cancellations, CRLF.


def write_spreadsheet(folder: Path, done: list[Act]) -> None:
    rows = []
    for n, a in enumerate(act for act in done if act.kind == BUY):
        when = datetime.fromtimestamp(a.time, UTC).strftime("%d.%m.%Y %H:%M")
        rows.append(f'A{a.session};P{a.product};"Tasse; blau";2;{when};1.234,50 €;{a.shopper}')
        if n % 20 == 0:
            rows.append(f"C{a.session};P{a.product};Tasse;-2;{when};1.234,50 €;{a.shopper}")
            rows.append(f"B{a.session};P{a.product};Tasse;1;{when};9,99 €;")
    header = "Beleg Nr.;Artikel;Beschreibung;Menge;Datum;Einzelpreis;Kunden ID"
    text = table(header, rows, end="\r\n")
    (folder / "verkauf.csv").write_bytes(text.encode("utf-8-sig"))


SPREADSHEET = """
name = "spreadsheet"
format_version = 1
[[sources]]
files = "verkauf.csv"
event_type = "purchase"
[columns]
shopper_id = "Kunden ID"
event_time = "Datum"
product_id = "Artikel"
quantity = "Menge"
[time]
unit = "%d.%m.%Y %H:%M"
timezone = "Europe/Berlin"
[product]
title = "Beschreibung"
price = "Einzelpreis"
currency = "EUR"
"""


# A list of interactions in the order they happened, and nothing else: no times, one type.


def write_order_only(folder: Path, done: list[Act]) -> None:
    rows = [f"{a.shopper} {a.product}" for a in sorted(done, key=lambda a: (a.shopper, a.time))]
    (folder / "sequences.txt.xz").write_bytes(lzma.compress(table(None, rows).encode()))


ORDER_ONLY = """
name = "order-only"
format_version = 1
[[sources]]
files = "sequences.txt.xz"
has_header = false
column_names = ["user", "item"]
event_type = "view-product"
[columns]
shopper_id = "user"
product_id = "item"
[time]
unit = "order"
"""


# Tabs, times in nanoseconds, a pretty-printed JSON list for a catalog.


def write_tabs(folder: Path, done: list[Act]) -> None:
    rows = [f"{a.shopper}\t{a.kind}\t{a.time}000000000\t{a.product}" for a in done]
    text = table("user\taction\twhen\titem", rows)
    (folder / "log.tsv.bz2").write_bytes(bz2.compress(text.encode()))
    items = [{"id": p, "about": {"name": f"Lamp {p}", "shelf": p // 10}} for p in range(N_PRODUCTS)]
    (folder / "items.json").write_text(json.dumps(items, indent=1))


TABS = """
name = "tabs"
format_version = 1
[[sources]]
files = "log.tsv.bz2"
[columns]
shopper_id = "user"
event_time = "when"
event_type = "action"
product_id = "item"
[event_types]
view = "view-product"
cart = "add-to-cart"
buy = "purchase"
[time]
unit = "ns"
[catalog]
file = "items.json"
[catalog.columns]
product_id = "id"
title = "about.name"
category = "about.shelf"
"""


# A warehouse's table: structs, times that are times, floats for ids, nulls.


def write_warehouse(folder: Path, done: list[Act]) -> None:
    frame = pl.DataFrame(
        {
            "client id": [float(a.shopper) for a in done],
            "occurred at": [datetime.fromtimestamp(a.time, UTC) for a in done],
            "payload": [{"kind": a.kind, "sku": {"id": a.product, "cents": None}} for a in done],
        }
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    (folder / "part-000.parquet").write_bytes(buffer.getvalue())


WAREHOUSE = """
name = "warehouse"
format_version = 1
[[sources]]
files = "*.parquet"
[columns]
shopper_id = "client id"
event_time = "occurred at"
event_type = "payload.kind"
product_id = "payload.sku.id"
[event_types]
view = "view-product"
cart = "add-to-cart"
buy = "purchase"
"""


def is_view(act: Act) -> bool:
    return act.kind == VIEW


def is_buy(act: Act) -> bool:
    return act.kind == BUY


def is_no_cart(act: Act) -> bool:
    return act.kind != CART


SHAPES = {
    "otto": Shape(write_otto, OTTO),
    "otto-parquet": Shape(write_otto_parquet, OTTO_PARQUET),
    "yoochoose": Shape(write_yoochoose, YOOCHOOSE, ("view-product", "purchase"), is_no_cart),
    "retailrocket": Shape(write_retailrocket, RETAILROCKET),
    "diginetica": Shape(
        write_diginetica, DIGINETICA, ("view-product", "purchase"), is_no_cart, "column"
    ),
    "tmall": Shape(write_tmall, TMALL),
    "instacart": Shape(write_instacart, INSTACART, ("purchase",), is_view),
    "dunnhumby": Shape(write_dunnhumby, DUNNHUMBY, ("purchase",), is_view, "column"),
    "hm": Shape(write_hm, HM, ("purchase",), is_buy),
    "movielens": Shape(write_movielens, MOVIELENS, ("view-product", "favorite"), is_view),
    "spreadsheet": Shape(write_spreadsheet, SPREADSHEET, ("purchase",), is_buy),
    "order-only": Shape(write_order_only, ORDER_ONLY, ("view-product",)),
    "tabs": Shape(write_tabs, TABS),
    "warehouse": Shape(write_warehouse, WAREHOUSE),
}
