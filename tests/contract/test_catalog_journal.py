"""What the catalog journal promises: order, durability, and that nobody overwrites unseen."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from decimal import Decimal
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopintent.artifacts import IndexedProduct
from shopintent.behavior import Product
from shopintent.server import catalog_journal
from shopintent.server.catalog_journal import CatalogJournal, Change
from shopintent.server.errors import StateUnavailable
from support.cataloging import changes

KILLS = 20 if os.environ.get("SHOPINTENT_LONG_TESTS") else 3
FILES = count()

pytestmark = pytest.mark.releases

CHAIR = Product(
    "p1",
    title='стул "🪑"',
    description="a\0b",
    brand="Acme",
    categories=("Garden > Chairs", "Sale"),
    price=Decimal("19.90"),
    currency="EUR",
    in_stock=False,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "catalog.sqlite"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[CatalogJournal]:
    journal = CatalogJournal.open(path)
    yield journal
    await journal.close()


async def append(
    journal: CatalogJournal,
    changes: dict[str, Product | None],
    *,
    seen: int | None = None,
    release: str = "r1",
    embedded: dict[str, IndexedProduct] | None = None,
) -> bool:
    return await journal.append(
        changes,
        seen=journal.latest() if seen is None else seen,
        release=release,
        embedded=embedded or {},
        timeout_s=10,
    )


def state_after(journal: CatalogJournal, position: int, limit: int = 3) -> dict[str, object]:
    """Returns what a follower holds that had nothing and starts behind the position."""
    held: dict[str, object] = {}
    while batch := journal.tail(position, limit):
        assert [each.position for each in batch] == sorted({each.position for each in batch})
        assert batch[0].position > position
        position = batch[-1].position
        held |= {each.product_id: each.product for each in batch}
    return held


async def test_an_empty_journal_holds_nothing(journal: CatalogJournal) -> None:
    assert (journal.latest(), journal.current(["p"]), journal.tail(0, 10)) == (0, {}, [])


async def test_what_was_appended_is_read_by_whoever_opens_it(
    journal: CatalogJournal, path: Path
) -> None:
    assert await append(journal, {"p1": CHAIR, "p2": Product("p2"), "gone": None})
    other = CatalogJournal.open(path)
    assert other.current(["p1", "gone", "unknown"]) == {"p1": CHAIR, "gone": None}
    tail = other.tail(0, 10)
    assert [(each.product_id, each.product) for each in tail] == [
        ("p1", CHAIR),
        ("p2", Product("p2")),
        ("gone", None),
    ]
    assert other.latest() == tail[-1].position
    await other.close()


async def test_only_the_newest_change_of_a_product_is_kept_behind_all_others(
    journal: CatalogJournal,
) -> None:
    await append(journal, {"p1": CHAIR, "p2": Product("p2")})
    before = journal.latest()
    await append(journal, {"p1": None})
    assert [each.product_id for each in journal.tail(0, 10)] == ["p2", "p1"]
    assert journal.tail(before, 10) == [Change(journal.latest(), "p1", None)]


async def test_positions_rise_also_when_the_newest_change_is_replaced(
    journal: CatalogJournal,
) -> None:
    positions = []
    for _ in range(5):
        await append(journal, {"p1": CHAIR})
        positions.append(journal.latest())
    assert positions == sorted(set(positions))


async def test_nothing_is_written_over_a_change_that_was_not_seen(
    journal: CatalogJournal, path: Path
) -> None:
    other = CatalogJournal.open(path)
    seen = other.latest()
    await append(journal, {"p1": CHAIR})
    assert not await append(other, {"p2": Product("p2"), "p1": None}, seen=seen)
    assert other.current(["p1", "p2"]) == {"p1": CHAIR}
    assert await append(other, {"p2": Product("p2")}, seen=seen), "p2 was not changed"
    assert await append(other, {"p1": None})
    await other.close()


async def test_a_journal_made_anew_goes_on_behind_the_lost_one(path: Path) -> None:
    """So that an index which holds changes of the lost one misses none of the new."""
    lost = CatalogJournal.open(path)
    await append(lost, {f"p{number}": None for number in range(100)})
    position = lost.latest()
    await lost.close()
    new = CatalogJournal.open(path.with_name("new.sqlite"))
    await append(new, {"p1": CHAIR})
    assert new.tail(position, 10) == [Change(new.latest(), "p1", CHAIR)]
    await new.close()


def embedding_of(product: Product) -> IndexedProduct:
    embedding = np.linspace(0, 1, 4, dtype=np.float32)
    return IndexedProduct(product, embedding, np.arange(6, dtype=np.int32))


async def test_embeddings_are_known_for_the_release_and_the_newest_change_only(
    journal: CatalogJournal,
) -> None:
    await append(journal, {"p1": CHAIR, "p2": None}, embedded={"p1": embedding_of(CHAIR)})
    old = journal.tail(0, 10)
    found = journal.embedded("r1", old)
    assert list(found) == ["p1"]
    assert found["p1"].product == CHAIR
    assert found["p1"].embedding.tolist() == embedding_of(CHAIR).embedding.tolist()
    assert found["p1"].content.tolist() == [0, 1, 2, 3, 4, 5]
    assert journal.embedded("r2", old) == {}
    await append(journal, {"p1": CHAIR})
    assert journal.embedded("r1", journal.tail(0, 10)) == journal.embedded("r1", old) == {}


async def test_embeddings_of_old_releases_are_forgotten(path: Path) -> None:
    journal = CatalogJournal.open(path)
    for number in range(catalog_journal.KEPT_RELEASES + 2):
        product = Product(f"p{number}")
        embedded = {product.product_id: embedding_of(product)}
        release = f"r{number}"
        await append(journal, {product.product_id: product}, release=release, embedded=embedded)
    await journal.close()
    journal = CatalogJournal.open(path)
    tail = journal.tail(0, 100)
    known = [number for number in range(6) if journal.embedded(f"r{number}", tail)]
    assert known == [2, 3, 4, 5]
    await journal.close()


async def test_how_far_a_shared_index_is_never_goes_back_but_to_the_start(
    journal: CatalogJournal,
) -> None:
    assert journal.applied("r1") == 0
    for position in (3, 7, 5):
        await journal.mark_applied("r1", position, timeout_s=10)
    assert (journal.applied("r1"), journal.applied("r2")) == (7, 0)
    await journal.mark_applied("r1", 0, timeout_s=10)
    assert journal.applied("r1") == 0


batches = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.booleans(), min_size=1, max_size=4), max_size=12
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=batches, started=st.integers(0, 12))
async def test_whoever_follows_holds_the_same_wherever_it_began(
    tmp_path: Path, batches: list[dict[str, bool]], started: int
) -> None:
    journal = CatalogJournal.open(tmp_path / f"{next(FILES)}.sqlite")
    expected: dict[str, object] = {}
    early: dict[str, object] = {}
    early_position = 0
    for number, batch in enumerate(batches):
        written = {
            key: Product(key, title=str(number)) if exists else None
            for key, exists in batch.items()
        }
        await append(journal, dict(written))
        expected |= written
        if number == started:
            early, early_position = state_after(journal, 0), journal.latest()
    assert state_after(journal, 0) == expected
    assert {**early, **state_after(journal, early_position)} == expected
    await journal.close()


def start_writer(path: Path, round_number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "support.cataloging", str(path), str(round_number)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )


async def test_kill_9_loses_no_acknowledged_change(path: Path) -> None:
    for round_number in range(KILLS):
        writer = start_writer(path, round_number)
        assert writer.stdout is not None
        await asyncio.to_thread(writer.stdout.readline)
        await asyncio.sleep(random.uniform(0, 0.2))
        writer.kill()
        rest, _ = await asyncio.to_thread(writer.communicate)
        numbers = [int(line) for line in rest.splitlines(True) if line.endswith("\n")]
        journal = CatalogJournal.open(path)
        last = numbers[-1] if numbers else 0
        written = changes(round_number, last)
        found = journal.current(list(written))
        # The batch behind the last that was acknowledged may be written, and then it is wholly.
        following = changes(round_number, last + 1)
        wholly = journal.current(list(following)) == following
        assert found == written or wholly
        await journal.close()


def test_a_file_that_cannot_be_used_is_named_with_the_remedy(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(StateUnavailable, match=r"catalog.*not a database.*move catalog\.sqlite\*"):
        CatalogJournal.open(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StateUnavailable, match="a newer version"):
        CatalogJournal.open(path)
