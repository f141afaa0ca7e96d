"""Beside the event log stand the products that the catalog changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from shopintent.artifacts.event_log import PRODUCTS_FILE
from shopintent.artifacts.products import product_from_json
from shopintent.behavior import Product
from shopintent.server.catalog_journal import CatalogJournal
from shopintent.server.event_log import products
from shopintent.server.event_log.files import make_folders
from shopintent.server.event_log.products import ProductsFile

pytestmark = pytest.mark.events


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[CatalogJournal]:
    journal = CatalogJournal.open(tmp_path / "catalog.sqlite")
    yield journal
    await journal.close()


async def write(journal: CatalogJournal, *changes: Product | str) -> None:
    """Writes products, and deletes those of which there is only the id."""
    by_id = {each if isinstance(each, str) else each.product_id: each for each in changes}
    await journal.append(
        {key: None if isinstance(each, str) else each for key, each in by_id.items()},
        seen=journal.latest(),
        release="r1",
        embedded={},
        timeout_s=5,
    )


def product(product_id: str, price: str = "1.00") -> Product:
    return Product(product_id, title=f"Çay {product_id}", price=Decimal(price))


def read(folder: Path) -> dict[str, Product]:
    lines = (folder / PRODUCTS_FILE).read_text(encoding="utf-8").splitlines()
    found = [product_from_json(json.loads(line)) for line in lines]
    assert len({each.product_id for each in found}) == len(found)
    return {each.product_id: each for each in found}


async def test_it_holds_the_newest_state_of_each_product_and_none_that_was_deleted(
    journal: CatalogJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "AT_ONCE", 3)
    make_folders(tmp_path)
    file = ProductsFile(journal, tmp_path)
    await write(journal, *(product(f"p{each}") for each in range(8)))
    await write(journal, product("p3", "2.50"), "p5")
    await file.write()
    expected = {f"p{each}": product(f"p{each}") for each in range(8) if each != 5}
    assert read(tmp_path) == expected | {"p3": product("p3", "2.50")}


async def test_it_is_written_when_the_catalog_changed_and_only_then(
    journal: CatalogJournal, tmp_path: Path
) -> None:
    file = ProductsFile(journal, tmp_path)
    await file.write()
    assert not (tmp_path / PRODUCTS_FILE).exists()
    await write(journal, product("p1"))
    await file.write()
    (tmp_path / PRODUCTS_FILE).unlink()
    await file.write()
    assert not (tmp_path / PRODUCTS_FILE).exists()
    await write(journal, product("p2"))
    await file.write()
    assert set(read(tmp_path)) == {"p1", "p2"}
