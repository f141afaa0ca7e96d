"""A mapping can say how well-known public logs are written; a few lines of each are prepared."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from shopintent.trainer.data import Dataset, load_mapping, prepare
from shopintent.trainer.data.mapping import Mapping
from shopintent.trainer.data.mapping_file import parse_mapping


def prepared(folder: Path, files: dict[str, str], mapping: Mapping) -> Dataset:
    log = folder / "log"
    log.mkdir()
    for name, text in files.items():
        (log / name).write_text(text, encoding="utf-8")
    return prepare(log, mapping, folder / "out")


def rows(dataset: Dataset, *columns: str) -> list[tuple[object, ...]]:
    return dataset.events().select(columns).collect().rows()


def test_the_original_taobao_csv_has_no_header(tmp_path: Path) -> None:
    text = "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n"
    dataset = prepared(tmp_path, {"UserBehavior.csv": text}, load_mapping("taobao"))
    assert rows(dataset, "shopper_id", "event_type", "product_id") == [
        ("1", "view-product", "2268318"),
        ("1", "purchase", "2333346"),
    ]


def test_the_original_rees46_csv_has_category_paths_and_sessions(tmp_path: Path) -> None:
    text = (
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,"
        "user_session\n"
        "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,a-1\n"
        "2019-10-01 00:00:04 UTC,cart,1004,2053013555631882655,electronics.smartphone,apple,"
        "1081.98,541312140,a-1\n"
        "2019-10-01 00:00:09 UTC,remove_from_cart,1004,2053013555631882655,"
        "electronics.smartphone,apple,1081.98,541312140,b-2\n"
    )
    dataset = prepared(tmp_path, {"2019-Oct.csv": text}, load_mapping("rees46"))
    assert rows(dataset, "event_time", "session_id", "quantity") == [
        (1_569_888_000, 0, 0),
        (1_569_888_004, 0, 1),
        (1_569_888_009, 1, 1),
    ]
    phone, cream = dataset.products()
    assert phone.categories == ("electronics > smartphone",)
    assert phone.price == Decimal("1081.98")
    assert cream.categories == ("2103807459595387724",)


def test_retailrocket_counts_time_in_milliseconds(tmp_path: Path) -> None:
    mapping = parse_mapping(
        """
name = "retailrocket"
format_version = 1
[[sources]]
files = "events.csv"
[columns]
event_time = "timestamp"
shopper_id = "visitorid"
event_type = "event"
product_id = "itemid"
[event_types]
view = "view-product"
addtocart = "add-to-cart"
transaction = "purchase"
[time]
unit = "ms"
""",
        "retailrocket.toml",
    )
    text = (
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n"
        "1433221999827,257597,transaction,356475,4000\n"
    )
    dataset = prepared(tmp_path, {"events.csv": text}, mapping)
    assert rows(dataset, "event_time", "event_type", "next_action") == [
        (1_433_221_332, "view-product", "purchase"),
        (1_433_221_999, "purchase", "leave"),
    ]


def test_yoochoose_keeps_clicks_and_buys_in_files_without_a_type(tmp_path: Path) -> None:
    mapping = parse_mapping(
        """
name = "yoochoose"
format_version = 1
[session]
rule = "column"
[[sources]]
files = "yoochoose-clicks.dat"
format = "csv"
has_header = false
column_names = ["session", "time", "item", "category"]
event_type = "view-product"
[sources.columns]
event_time = "time"
shopper_id = "session"
session_id = "session"
product_id = "item"
[sources.product]
category = "category"
[[sources]]
files = "yoochoose-buys.dat"
format = "csv"
has_header = false
column_names = ["session", "time", "item", "price", "quantity"]
event_type = "purchase"
[sources.columns]
event_time = "time"
shopper_id = "session"
session_id = "session"
product_id = "item"
quantity = "quantity"
[sources.product]
price = "price"
""",
        "yoochoose.toml",
    )
    clicks = "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,S\n"
    buys = "1,2014-04-07T10:58:00.306Z,214536500,1046,3\n"
    files = {"yoochoose-clicks.dat": clicks, "yoochoose-buys.dat": buys}
    dataset = prepared(tmp_path, files, mapping)
    assert rows(dataset, "event_type", "quantity", "session_id") == [
        ("view-product", 0, 0),
        ("view-product", 0, 0),
        ("purchase", 3, 0),
    ]
    bought = next(product for product in dataset.products() if product.price is not None)
    assert (bought.categories, bought.price) == (("S",), Decimal("1046"))


def test_tmall_numbers_its_event_types_and_leaves_the_year_out(tmp_path: Path) -> None:
    mapping = parse_mapping(
        """
name = "tmall"
format_version = 1
[[sources]]
files = "user_log_format1.csv"
[columns]
event_time = "time_stamp"
shopper_id = "user_id"
event_type = "action_type"
product_id = "item_id"
[event_types]
0 = "view-product"
1 = "add-to-cart"
2 = "purchase"
3 = "favorite"
[time]
unit = "%Y%m%d"
prefix = "2014"
digits = 4
timezone = "Asia/Shanghai"
[product]
title = ["brand_id", "seller_id"]
brand = "brand_id"
category = "cat_id"
[cleaning]
duplicates = "keep"
""",
        "tmall.toml",
    )
    text = (
        "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type\n"
        "328862,323294,833,2882,2661,829,0\n328862,323294,833,2882,2661,829,0\n"
        "328862,323294,833,2882,2661,1111,2\n"
    )
    dataset = prepared(tmp_path, {"user_log_format1.csv": text}, mapping)
    assert dataset.info.n_events == 3
    assert rows(dataset, "event_time")[0] == (1_409_241_600,)
    (product,) = dataset.products()
    assert (product.title, product.brand) == ("2661 2882", "2661")


def test_a_catalog_describes_products_that_no_event_has_touched(tmp_path: Path) -> None:
    mapping = parse_mapping(
        """
name = "app"
format_version = 1
[[sources]]
files = "*.jsonl"
[columns]
event_time = ["day", "clock"]
shopper_id = "user.id"
event_type = "do"
product_id = "item.sku"
[event_types]
open = "view-product"
[product]
price = "item.price"
currency = "USD"
[catalog]
file = "products.csv"
delimiter = ";"
[catalog.columns]
product_id = "sku"
title = "name"
category = ["division", "class"]
price = "price"
currency_column = "cur"
in_stock = "available"
""",
        "app.toml",
    )
    event = '{"day":"2024-05-01","clock":"10:00","user":{"id":1},"do":"open","item":%s}\n'
    log = event % '{"sku":"A","price":3.5}' + event % '{"sku":"C","price":4}'
    catalog = (
        "sku;name;division;class;price;cur;available\n"
        'A;"A ""fine"" dress; red";Women;Dresses;12.00;EUR;yes\nB;Belt;Men;;9.99;EUR;no\n'
    )
    dataset = prepared(tmp_path, {"a.jsonl": log, "products.csv": catalog}, mapping)
    dress, belt, unlisted = dataset.products()
    assert (dress.title, dress.categories) == ('A "fine" dress; red', ("Women > Dresses",))
    assert (dress.price, dress.currency) == (Decimal("12.00"), "EUR")
    assert (belt.categories, belt.in_stock) == (("Men",), False)
    # One currency a catalog: the price in dollars is not comparable and becomes unknown.
    assert (unlisted.product_id, unlisted.price, unlisted.currency) == ("C", None, "")
    seen = dataset.product_table().select("n_events", "first_seen_time").collect()
    assert seen["n_events"].to_list() == [1, 0, 1]
    assert seen["first_seen_time"].null_count() == 1
    assert any("another currency" in warning for warning in dataset.report()["warnings"])
