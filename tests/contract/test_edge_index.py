"""What the embedded product index promises beyond ProductIndex: durability, and clear refusals."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseError, ReleaseFolder
from shopintent.behavior import Product
from shopintent.server.errors import IndexUnavailable, ReleaseMismatch
from shopintent.server.index import ProductFilter, edge
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
    with pytest.raises(IndexUnavailable, match=f"{tmp_path} is open in another process"):
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
    for segment in (tmp_path / "shard" / "segments").rglob("*.json"):
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
    monkeypatch.setattr(edge, "INDEXING_THRESHOLD_KB", 50)
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
