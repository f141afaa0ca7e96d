"""Writes to the catalog reach every release in every process, and stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shopintent.artifacts.routing import Routing, Share
from shopintent.behavior import Product
from shopintent.server.catalog import PRODUCT_FIELDS
from shopintent.server.catalog_journal import CatalogJournal
from shopintent.server.catalog_writes import CatalogWriter, catch_up
from shopintent.server.config import Config
from shopintent.server.deadlines import Deadline
from shopintent.server.errors import IndexUnavailable, ModelUnavailable
from shopintent.server.index import ProductFilter
from shopintent.server.serving import ServingRelease
from shopintent.server.traffic import Traffic
from support.server import Outside, eventually, make_outside, open_release

pytestmark = pytest.mark.releases

NEW = Product("new", title="Red chair", categories=("Garden",))


@dataclass(frozen=True, eq=False)
class Process:
    """A server process with its own indexes, and the journal that it shares."""

    outsides: dict[str, Outside]
    traffic: Traffic
    writer: CatalogWriter

    def products(self, release_id: str = "r1") -> dict[str, Product]:
        held = self.outsides[release_id].index.products
        return {key: each.product for key, each in held.items()}

    async def update(self, *products: Product, fields: frozenset[str] = PRODUCT_FIELDS) -> None:
        await self.writer.update(products, fields, deadline=soon())

    async def delete(self, product_id: str) -> None:
        await self.writer.delete(product_id, deadline=soon())


def soon() -> Deadline:
    return Deadline.for_call(None, at_most_s=10)


async def opened(outside: Outside) -> ServingRelease:
    release = open_release(Config(), outside)
    await release.monitor.check()
    return release


@asynccontextmanager
async def process(folder: Path, name: str, *release_ids: str) -> AsyncIterator[Process]:
    outsides = {each: make_outside(folder / name / each, each) for each in release_ids}
    releases = {each: await opened(outsides[each]) for each in release_ids}
    first = releases[release_ids[0]]

    async def open_of_others(release_id: str) -> ServingRelease:
        return releases[release_id]

    async def prove(release: ServingRelease) -> None:
        pass

    traffic = Traffic(first, Routing(first.release_id), open_release=open_of_others, prove=prove)
    journal = CatalogJournal.open(folder / "catalog.sqlite")
    writer = CatalogWriter(journal, traffic)
    if len(release_ids) > 1:
        traffic.follow(Routing(release_ids[0], canary=Share(release_ids[1], 50)))
        await eventually(lambda: _are_ready(traffic, len(release_ids)))
    following = asyncio.create_task(writer.follow())
    try:
        yield Process(outsides, traffic, writer)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await traffic.close()
        await journal.close()


async def _are_ready(traffic: Traffic, n_releases: int) -> bool:
    return len(traffic.ready) == n_releases


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Process]:
    async with process(tmp_path, "one", "r1") as each:
        yield each


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Process]:
    async with process(tmp_path, "other", "r1") as each:
        yield each


async def holds(process: Process, *products: Product, release_id: str = "r1") -> None:
    async def all_held() -> bool:
        held = process.products(release_id)
        return all(held.get(each.product_id) == each for each in products)

    await eventually(all_held)


async def lacks(process: Process, product_id: str, release_id: str = "r1") -> None:
    async def is_gone() -> bool:
        return product_id not in process.products(release_id)

    await eventually(is_gone)


async def test_a_write_is_acknowledged_when_the_serving_release_holds_it(one: Process) -> None:
    await one.update(NEW)
    assert one.products()["new"] == NEW
    await one.delete("new")
    assert "new" not in one.products()


async def test_other_processes_follow_without_embedding_again(one: Process, other: Process) -> None:
    await one.update(NEW)
    await holds(other, NEW)
    assert other.outsides["r1"].encoder.texts == []
    mine, theirs = (each.outsides["r1"].index.products["new"] for each in (one, other))
    assert mine.embedding.tolist() == theirs.embedding.tolist()
    assert mine.content.tolist() == theirs.content.tolist()
    await other.delete("p8")
    await lacks(one, "p8")


async def test_popular_products_follow_in_every_process(one: Process, other: Process) -> None:
    def popular(process: Process) -> list[Product]:
        everything = ProductFilter(out_of_stock_included=True)
        return [each for each, _ in process.traffic.serving.popular.top(100, everything)]

    first, second = popular(one)[:2]
    dearer = replace(first, title="Another title")
    await one.update(dearer)
    await one.delete(second.product_id)

    async def follows() -> bool:
        return dearer in popular(other) and second not in popular(other)

    await eventually(follows)


async def test_every_open_release_follows_with_its_own_embeddings(tmp_path: Path) -> None:
    async with process(tmp_path, "one", "r1", "r2") as one:
        await one.update(NEW)
        await one.delete("p8")
        await holds(one, NEW, release_id="r2")
        await lacks(one, "p8", release_id="r2")
        assert one.outsides["r2"].encoder.texts == ["Red chair. Garden"]


async def test_a_release_opened_later_holds_what_was_written_before(
    one: Process, tmp_path: Path
) -> None:
    await one.update(NEW, Product("p9", title="Changed"))
    await one.delete("p8")
    later = make_outside(tmp_path / "later", "r2")
    await catch_up(await opened(later), one.writer.journal)
    assert later.index.products["new"].product == NEW
    assert later.index.products["p9"].product == Product("p9", title="Changed")
    assert "p8" not in later.index.products


async def test_updates_of_different_fields_at_once_all_count(one: Process, other: Process) -> None:
    before = one.products()["p8"]
    await asyncio.gather(
        *(
            process.update(Product("p8", **{name: value}), fields=frozenset({name}))  # type: ignore[arg-type]
            for process, name, value in (
                (one, "title", "T"),
                (other, "brand", "B"),
                (one, "description", "D"),
                (other, "in_stock", False),
            )
        )
    )
    expected = replace(before, title="T", brand="B", description="D", in_stock=False)
    await holds(one, expected)
    await holds(other, expected)


async def test_an_update_sees_what_another_process_wrote_before(
    one: Process, other: Process
) -> None:
    """Also when the index here does not hold it yet."""
    other.outsides["r1"].index.down = True
    await one.update(NEW)
    await one.delete("p8")
    other.outsides["r1"].index.down = False
    await other.update(Product("new", brand="B"), fields=frozenset({"brand"}))
    await other.update(Product("p8", brand="B"), fields=frozenset({"brand"}))
    for each in (one, other):
        await holds(each, replace(NEW, brand="B"), Product("p8", brand="B"))


async def test_nothing_is_written_when_the_models_are_down(one: Process) -> None:
    one.outsides["r1"].encoder.down = True
    before = one.products()
    with pytest.raises(ModelUnavailable):
        await one.update(replace(before["p8"], in_stock=False), NEW)
    assert one.products() == before
    assert one.writer.journal.latest() == 0


async def test_a_release_that_cannot_follow_does_so_once_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with process(tmp_path, "one", "r1", "r2") as one:
        one.outsides["r2"].index.down = True
        await one.update(NEW)
        assert one.products()["new"] == NEW

        async def is_told() -> bool:
            return "release r2 does not follow the catalog" in caplog.text

        await eventually(is_told)
        assert "new" not in one.products("r2")
        one.outsides["r2"].index.down = False
        await holds(one, NEW, release_id="r2")


async def test_what_was_applied_before_a_crash_is_not_embedded_again(one: Process) -> None:
    await one.update(NEW)
    release = one.traffic.serving
    asked = list(one.outsides["r1"].encoder.texts)
    release.catalog.progress.position = 0
    await catch_up(release, one.writer.journal)
    assert one.outsides["r1"].encoder.texts == asked
    assert one.products()["new"] == NEW


async def test_a_write_waits_for_a_release_that_catches_up_no_longer_than_it_may(
    one: Process,
) -> None:
    async with one.traffic.serving.catalog.progress.lock:
        deadline = Deadline.for_call(None, at_most_s=0.1)
        with pytest.raises(IndexUnavailable, match="catching up"):
            await one.writer.update([NEW], PRODUCT_FIELDS, deadline=deadline)
    await holds(one, NEW)
