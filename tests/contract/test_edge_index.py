"""What the embedded product index promises beyond ProductIndex: durability, and clear refusals."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseError, ReleaseFolder
from shopintent.behavior import Product
from shopintent.server.errors import IndexUnavailable, ReleaseMismatch
from shopintent.server.index import ProductFilter, edge, edge_engine, edge_files
from shopintent.server.index.edge import EdgeProductIndex
from support import shop as shops
from support.index_suite import EVERYTHING, TIMEOUT_S, expected, nearest_ids, query


@pytest.fixture(scope="module")
def shop() -> list[IndexedProduct]:
    return shops.indexed(shops.products())


@pytest.fixture(scope="module")
def manifest(shop: list[IndexedProduct]) -> Manifest:
    return shops.manifest(len(shop))


@pytest.fixture(scope="module")
def release(shop: list[IndexedProduct], tmp_path_factory: pytest.TempPathFactory) -> ReleaseFolder:
    return shops.write_release(tmp_path_factory.mktemp("release"), shop)


async def test_catalog_updates_outlive_a_restart(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    first = EdgeProductIndex.open(tmp_path, release, manifest)
    new = IndexedProduct(Product("new"), query(), np.zeros(6, dtype=np.int32))
    await first.upsert([new], timeout_s=TIMEOUT_S)
    await first.delete(["p7"], timeout_s=TIMEOUT_S)
    await first.close()
    second = EdgeProductIndex.open(tmp_path, release, manifest)
    assert set(await second.get(["new", "p7"], timeout_s=TIMEOUT_S)) == {"new"}
    assert await nearest_ids(second, ProductFilter(), limit=1) == ["new"]
    await second.close()


DIES_AFTER_WRITING = """
import asyncio, os, sys
from dataclasses import replace
from pathlib import Path
from shopintent.artifacts import ReleaseFolder
from shopintent.server.index.edge import EdgeProductIndex
from support import shop as shops

release = ReleaseFolder(Path(sys.argv[2]))
products = shops.indexed(shops.products())
index = EdgeProductIndex.open(Path(sys.argv[1]), release, shops.manifest(len(products)))
changed = replace(products[9], product=replace(products[9].product, title="written, then killed"))
asyncio.run(index.upsert([changed], timeout_s=10.0))
os._exit(9)
"""


async def test_catalog_updates_outlive_a_killed_process(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    arguments = [sys.executable, "-c", DIES_AFTER_WRITING, str(tmp_path), str(release.path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    killed = await asyncio.create_subprocess_exec(*arguments, env=environment)
    assert await killed.wait() == 9
    index = EdgeProductIndex.open(tmp_path, release, manifest)
    assert (await index.get(["p9"], timeout_s=TIMEOUT_S))["p9"].product.title == (
        "written, then killed"
    )
    assert (await index.describe(timeout_s=TIMEOUT_S)).n_products == manifest.n_products
    await index.close()


async def test_a_folder_open_elsewhere_is_refused_by_name(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    first = EdgeProductIndex.open(tmp_path, release, manifest)
    with pytest.raises(IndexUnavailable, match="worker-0 is open in another process"):
        EdgeProductIndex.open(tmp_path, release, manifest)
    assert len(await nearest_ids(first, EVERYTHING)) == manifest.n_products
    await first.close()
    await EdgeProductIndex.open(tmp_path, release, manifest).close()


async def test_a_half_built_collection_is_built_again(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    small = shops.write_release(tmp_path / "small", shops.indexed(shops.products(3)))

    def stop_halfway(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EdgeProductIndex.open(tmp_path, release, manifest, on_progress=stop_halfway)
    index = EdgeProductIndex.open(tmp_path, release, manifest)
    assert (await index.describe(timeout_s=TIMEOUT_S)).n_products == manifest.n_products
    await index.close()
    # What was complete before another build began and stopped is complete no more.
    newer = replace(manifest, created_at="2026-02-02T00:00:00Z", n_products=1)
    with pytest.raises(ReleaseMismatch):
        EdgeProductIndex.open(tmp_path, small, newer)
    index = EdgeProductIndex.open(tmp_path, release, manifest)
    assert (await index.describe(timeout_s=TIMEOUT_S)).n_products == manifest.n_products
    await index.close()


async def test_a_release_published_again_is_built_again(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    first = EdgeProductIndex.open(tmp_path, release, manifest)
    await first.delete(["p7"], timeout_s=TIMEOUT_S)
    await first.close()
    newer = replace(manifest, created_at="2026-02-02T00:00:00Z")
    second = EdgeProductIndex.open(tmp_path, release, newer)
    assert (await second.describe(timeout_s=TIMEOUT_S)).n_products == manifest.n_products
    await second.close()


async def test_building_tells_its_progress_and_opening_does_not_build(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    progress: list[tuple[int, int]] = []

    def on_progress(done: int, total: int) -> None:
        progress.append((done, total))

    for _ in range(2):
        index = EdgeProductIndex.open(tmp_path, release, manifest, on_progress=on_progress)
        await index.close()
    assert progress == [(manifest.n_products, manifest.n_products)]


def test_products_that_do_not_fit_the_manifest_are_refused(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    with pytest.raises(ReleaseMismatch, match="publish the release again"):
        EdgeProductIndex.open(tmp_path, release, replace(manifest, n_products=121))
    with pytest.raises(ReleaseMismatch, match="shape"):
        EdgeProductIndex.open(tmp_path, release, replace(manifest, embedding_size=8))


def test_a_release_without_products_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(ReleaseError):
        EdgeProductIndex.open(tmp_path / "index", ReleaseFolder(tmp_path), manifest)


async def test_damaged_files_are_named(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    await EdgeProductIndex.open(tmp_path, release, manifest).close()
    segments = tmp_path / "products_r1" / "worker-0" / "shard" / "segments"
    for segment in segments.rglob("*.json"):
        segment.write_text("{", encoding="utf-8")
    with pytest.raises(IndexUnavailable, match=str(tmp_path)):
        EdgeProductIndex.open(tmp_path, release, manifest)


async def test_a_closed_engine_is_unavailable(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    index = EdgeProductIndex.open(tmp_path, release, manifest)
    await index.close()
    with pytest.raises(IndexUnavailable, match="embedded engine"):
        await nearest_ids(index, EVERYTHING)


async def test_the_search_graph_finds_nearly_all_of_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_engine, "INDEXING_THRESHOLD_KB", 50)
    shop = shops.indexed(shops.products(4_000))
    release = shops.write_release(tmp_path / "release", shop)
    index = EdgeProductIndex.open(tmp_path / "index", release, shops.manifest(len(shop)))
    assert index._shard.info().indexed_vectors_count == len(shop)  # Otherwise this proves nothing.
    hits = 0
    for seed in range(100, 120):
        found = set(await nearest_ids(index, ProductFilter(), limit=50, seed=seed))
        hits += len(found & set(expected(shop, query(seed), ProductFilter())[:50]))
    assert hits / (20 * 50) > 0.95
    await index.close()


@pytest.mark.parametrize("most_left_out", [0, 30, 1_000])
async def test_what_is_excluded_takes_no_place_however_much_it_is(
    tmp_path: Path,
    release: ReleaseFolder,
    manifest: Manifest,
    shop: list[IndexedProduct],
    monkeypatch: pytest.MonkeyPatch,
    most_left_out: int,
) -> None:
    monkeypatch.setattr(edge, "MOST_LEFT_OUT", most_left_out)
    index = EdgeProductIndex.open(tmp_path, release, manifest)
    nearest = expected(shop, query(), ProductFilter())
    for excluded in (nearest[:1], nearest[:30], nearest[5:40:2], nearest, ["unknown"]):
        product_filter = ProductFilter(excluded_product_ids=frozenset(excluded))
        found = await nearest_ids(index, product_filter, limit=20)
        assert found == expected(shop, query(), product_filter)[:20]
    await index.close()


async def test_products_in_memory_stay_bounded(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest, shop: list[IndexedProduct]
) -> None:
    index = EdgeProductIndex.open(tmp_path, release, manifest, cached_products=5)
    for seed in range(10):
        assert (
            await nearest_ids(index, EVERYTHING, limit=20, seed=seed)
            == (expected(shop, query(seed), EVERYTHING)[:20])
        )
        assert len(index._cache) <= 5
    await index.close()


async def test_workers_open_copies_of_one_build_and_write_to_their_own(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    built: list[int] = []
    EdgeProductIndex.build(
        tmp_path, release, manifest, on_progress=lambda done, _: built.append(done)
    )
    workers = [
        EdgeProductIndex.open(
            tmp_path,
            release,
            manifest,
            worker=worker,
            on_progress=lambda done, _: built.append(done),
        )
        for worker in range(3)
    ]
    assert built == [manifest.n_products]
    await workers[1].delete(["p7"], timeout_s=TIMEOUT_S)
    counts = [(await each.describe(timeout_s=TIMEOUT_S)).n_products for each in workers]
    assert counts == [manifest.n_products, manifest.n_products - 1, manifest.n_products]
    for each in workers:
        await each.close()


async def test_copies_share_what_is_large_and_what_one_writes_reaches_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_engine, "INDEXING_THRESHOLD_KB", 50)
    shop = shops.indexed(shops.products(2_000))
    release = shops.write_release(tmp_path / "release", shop)
    manifest = shops.manifest(len(shop))
    EdgeProductIndex.build(tmp_path, release, manifest)
    home = tmp_path / "products_r1"

    def built() -> dict[Path, bytes]:
        files = (each for each in (home / "built").rglob("*") if each.is_file())
        return {each: hashlib.sha256(each.read_bytes()).digest() for each in files}

    def places(name: str, file: str) -> set[int]:
        return {each.stat().st_ino for each in (home / name).rglob(file)}

    before = built()
    index = EdgeProductIndex.open(tmp_path, release, manifest)
    for file in ("matrix.dat", "links_compressed.bin"):
        assert places("worker-0", file) == places("built", file) != set()
    assert not places("worker-0", "page_0.dat") & places("built", "page_0.dat")
    await index.delete([each.product.product_id for each in shop[:500]], timeout_s=TIMEOUT_S)
    await index.upsert(
        [replace(each, embedding=-each.embedding) for each in shop[500:1_500]], timeout_s=TIMEOUT_S
    )
    await index.close()
    assert built() == before


async def test_collections_of_several_releases_are_open_at_once(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    fewer = shops.indexed(shops.products(30))
    other = shops.write_release(tmp_path / "other", fewer)
    first = EdgeProductIndex.open(tmp_path / "index", release, manifest)
    second = EdgeProductIndex.open(
        tmp_path / "index", other, shops.manifest(len(fewer), release_id="r2")
    )
    assert len(await nearest_ids(first, EVERYTHING)) == manifest.n_products
    assert len(await nearest_ids(second, EVERYTHING)) == 30
    assert edge_files.collections(tmp_path / "index") == ["products_r1", "products_r2"]
    await first.close()
    await second.close()


async def test_a_removed_collection_goes_but_for_what_is_open(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest
) -> None:
    first = EdgeProductIndex.open(tmp_path, release, manifest)
    await EdgeProductIndex.open(tmp_path, release, manifest, worker=1).close()
    assert not edge_files.remove(tmp_path, manifest.release_id)
    assert len(await nearest_ids(first, EVERYTHING)) == manifest.n_products
    assert not (tmp_path / "products_r1" / "worker-1").exists()
    await first.close()
    assert edge_files.remove(tmp_path, manifest.release_id)
    assert edge_files.remove(tmp_path, manifest.release_id)
    assert edge_files.collections(tmp_path) == []


async def test_many_products_are_built_by_another_process(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_files, "BUILT_HERE", 10)
    manifest.save(release.manifest)
    progress: list[tuple[int, int]] = []
    index = EdgeProductIndex.open(
        tmp_path, release, manifest, on_progress=lambda *done: progress.append(done)
    )
    assert progress == [(manifest.n_products, manifest.n_products)]
    assert len(await nearest_ids(index, EVERYTHING)) == manifest.n_products
    await index.close()
    with pytest.raises(ReleaseError, match="products"):
        EdgeProductIndex.open(
            tmp_path / "none", ReleaseFolder(tmp_path), replace(manifest, release_id="r3")
        )


async def test_the_position_in_the_journal_is_kept_with_the_writes(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, killed, unplugged = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    index = EdgeProductIndex.open(path, release, manifest)
    assert index.applied_position == 0
    await index.delete(["p7"], timeout_s=TIMEOUT_S)
    index.mark_applied(7)
    await index.close()
    index = EdgeProductIndex.open(path, release, manifest)
    assert index.applied_position == 7
    await index.delete(["p8"], timeout_s=TIMEOUT_S)
    index.mark_applied(8)
    for copy in (killed, unplugged):  # What a process that ends here leaves behind.
        shutil.copytree(path, copy)
    await index.close()
    index = EdgeProductIndex.open(killed, release, manifest)
    assert index.applied_position == 8
    assert await index.get(["p7", "p8"], timeout_s=TIMEOUT_S) == {}
    await index.close()
    # When the power fails, what the operating system held of position 8 may be lost.
    monkeypatch.setattr(edge_files, "boot_id", lambda: "another")
    index = EdgeProductIndex.open(unplugged, release, manifest)
    assert index.applied_position == 7
    await index.close()


async def test_recall_tells_a_good_graph_from_none(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EdgeProductIndex.open(tmp_path, release, manifest)
    assert await index.recall(shops.unit_vectors(20), k=10, timeout_s=TIMEOUT_S) == 1.0

    def find_nothing(*_: object, exact: bool = False) -> object:
        return as_it_is(query(), 10 if exact else 0, EVERYTHING, exact)

    as_it_is = index._query
    monkeypatch.setattr(index, "_query", find_nothing)
    assert await index.recall(shops.unit_vectors(20), k=10, timeout_s=TIMEOUT_S) == 0.0
    await index.close()


async def test_updates_that_pile_up_are_taken_into_the_graph_while_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_engine, "INDEXING_THRESHOLD_KB", 20)
    shop = shops.indexed(shops.products(1_000))
    release = shops.write_release(tmp_path / "release", shop)
    manifest = shops.manifest(len(shop))
    index = EdgeProductIndex.open(tmp_path / "index", release, manifest)
    assert index.indexed
    changed = [replace(each, content=each.content + 1) for each in shop]
    await index.upsert(changed[:400], timeout_s=TIMEOUT_S)
    assert not index.indexed
    seen_while_optimizing = 0
    for position, each in enumerate(changed[400:]):
        await index.upsert([each], timeout_s=TIMEOUT_S)
        await index.delete([shop[position].product.product_id], timeout_s=TIMEOUT_S)
        index.mark_applied(position + 1)
        seen_while_optimizing += not index.indexed
        if index.indexed:
            break
        await asyncio.sleep(0.01)
    assert 0 < seen_while_optimizing < 599
    n_left = 1_000 - index.applied_position
    assert (await index.describe(timeout_s=TIMEOUT_S)).n_products == n_left
    written = shop[400 + position].product.product_id
    found = await index.get([written, shop[position].product.product_id], timeout_s=TIMEOUT_S)
    assert found[written].content.tolist() == changed[400 + position].content.tolist()
    assert len(found) == 1
    position = index.applied_position
    await index.close()
    folder = tmp_path / "index" / "products_r1" / "worker-0"
    assert sorted(each.name for each in folder.iterdir()) == ["shard-1", "state.json"]
    again = EdgeProductIndex.open(tmp_path / "index", release, manifest)
    assert again.applied_position == position
    assert (await again.describe(timeout_s=TIMEOUT_S)).n_products == n_left
    await again.close()


async def test_closing_does_not_wait_for_an_optimization(
    tmp_path: Path, release: ReleaseFolder, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(edge_engine, "INDEXING_THRESHOLD_KB", 0)
    index = EdgeProductIndex.open(tmp_path, release, manifest)
    monkeypatch.setattr(edge_files, "_child_command", lambda arguments: endless)
    await index.delete(["p7"], timeout_s=TIMEOUT_S)
    await asyncio.sleep(0.3)
    async with asyncio.timeout(20):
        await index.close()
