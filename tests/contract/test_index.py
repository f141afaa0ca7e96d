"""The promises of ProductIndex, kept alike by the fake, the embedded engine and Qdrant."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder
from shopintent.artifacts.layout import collection
from shopintent.behavior import Product
from shopintent.server.errors import IndexUnavailable, ReleaseMismatch
from shopintent.server.index import ProductFilter, ProductIndex
from shopintent.server.index.edge import EdgeProductIndex
from shopintent.server.index.qdrant import QdrantProductIndex, connect, load_collection
from support import shop as shops
from support.fake_index import FakeProductIndex
from support.grpc_qdrant import serve_qdrant
from support.index_suite import EVERYTHING, TIMEOUT_S, expected, nearest_ids, query

pytestmark = [
    # The in-process mode of qdrant-client, which stands in for a server, says this of itself.
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]


@dataclass(frozen=True)
class Collection:
    """An index, and what it must hold."""

    index: ProductIndex
    shop: list[IndexedProduct]


@pytest.fixture(scope="module")
def shop() -> list[IndexedProduct]:
    return shops.indexed(shops.products())


@pytest.fixture(scope="module")
def manifest(shop: list[IndexedProduct]) -> Manifest:
    return shops.manifest(len(shop))


@pytest.fixture(scope="module")
def release(shop: list[IndexedProduct], tmp_path_factory: pytest.TempPathFactory) -> ReleaseFolder:
    return shops.write_release(tmp_path_factory.mktemp("release"), shop)


async def open_index(
    kind: str,
    exits: AsyncExitStack,
    folder: Path,
    release: ReleaseFolder,
    manifest: Manifest,
    shop: list[IndexedProduct],
) -> ProductIndex:
    if kind == "fake":
        return FakeProductIndex(shop, embedding_size=manifest.embedding_size)
    if kind == "edge":
        return EdgeProductIndex.open(folder / "index", release, manifest)
    if kind == "qdrant in process":
        client = AsyncQdrantClient(":memory:")
    elif kind == "qdrant over gRPC":
        port = await exits.enter_async_context(serve_qdrant())
        client = connect(f"http://127.0.0.1:{port}", grpc_port=port)
    else:
        client = connect(os.environ["QDRANT_URL"], api_key=os.environ.get("QDRANT_API_KEY"))
        await client.delete_collection(collection(manifest.release_id))
    await load_collection(client, release, manifest, poll_s=0.01)
    return QdrantProductIndex(client, manifest)


KINDS = ["fake", "edge", "qdrant in process", "qdrant over gRPC"]
if "QDRANT_URL" in os.environ:
    KINDS.append("qdrant")


@pytest.fixture(params=KINDS)
async def held(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    release: ReleaseFolder,
    manifest: Manifest,
    shop: list[IndexedProduct],
) -> AsyncIterator[Collection]:
    async with AsyncExitStack() as exits:
        index = await open_index(request.param, exits, tmp_path, release, manifest, shop)
        yield Collection(index, shop)
        await index.close()


async def test_the_nearest_products_come_first(held: Collection) -> None:
    assert (
        await nearest_ids(held.index, EVERYTHING, limit=10)
        == (expected(held.shop, query(), EVERYTHING)[:10])
    )


async def test_similarity_is_the_dot_product(held: Collection) -> None:
    found = await held.index.nearest(
        query(), limit=20, product_filter=EVERYTHING, timeout_s=TIMEOUT_S
    )
    by_id = {each.product.product_id: each for each in held.shop}
    for candidate in found:
        dot = float(by_id[candidate.product.product_id].embedding @ query())
        assert candidate.similarity == pytest.approx(dot, abs=1e-5)


async def test_candidates_carry_the_whole_product(held: Collection) -> None:
    found = await held.index.nearest(
        query(), limit=1_000, product_filter=EVERYTHING, timeout_s=TIMEOUT_S
    )
    assert {candidate.product for candidate in found} == {each.product for each in held.shop}


FILTERS = [
    ProductFilter(),
    EVERYTHING,
    ProductFilter(categories=("Garden",)),
    ProductFilter(categories=("Garden > Chairs",)),
    ProductFilter(categories=("Garden > Chairs > Folding", "Kitchen > Pans")),
    ProductFilter(categories=("Outdoor",)),
    ProductFilter(categories=("Gard",)),
    ProductFilter(categories=("garden",)),
    ProductFilter(minimum_price=10.0),
    ProductFilter(maximum_price=10.0),
    ProductFilter(minimum_price=0.0),
    ProductFilter(minimum_price=9.99, maximum_price=10.01),
    ProductFilter(minimum_price=9.990001, maximum_price=10.009),
    ProductFilter(minimum_price=1e9),
    ProductFilter(excluded_product_ids=frozenset(shops.UNICODE_IDS)),
    ProductFilter(excluded_product_ids=frozenset({"never sold"})),
    ProductFilter(
        categories=("Garden",),
        excluded_product_ids=frozenset({"p7", "p8", "p13"}),
        minimum_price=5.0,
        maximum_price=300.0,
        out_of_stock_included=True,
    ),
]


async def test_a_filter_means_what_it_means_without_an_index(held: Collection) -> None:
    for product_filter in FILTERS:
        assert await nearest_ids(held.index, product_filter) == (
            expected(held.shop, query(), product_filter)
        ), product_filter


def random_filter(rng: np.random.Generator) -> ProductFilter:
    paths = ("Garden", "Garden > Chairs", "Gardening", "Kitchen", "Kitchen > Pans", "Nowhere")
    bounds = sorted(rng.choice([0.0, 9.99, 10.0, 10.005, 10.01, 250.5, 300.0], size=2).tolist())
    return ProductFilter(
        categories=tuple(rng.choice(paths, size=rng.integers(0, 3)).tolist()),
        excluded_product_ids=frozenset(f"p{each}" for each in rng.integers(0, 120, size=20)),
        minimum_price=bounds[0] if rng.random() < 0.4 else None,
        maximum_price=bounds[1] if rng.random() < 0.4 else None,
        out_of_stock_included=bool(rng.random() < 0.5),
    )


async def test_random_filters_agree_with_their_meaning(held: Collection) -> None:
    rng = np.random.default_rng(7)
    for seed in range(30):
        product_filter = random_filter(rng)
        assert await nearest_ids(held.index, product_filter, seed=seed) == (
            expected(held.shop, query(seed), product_filter)
        ), product_filter


@pytest.mark.parametrize("limit", [0, -1])
async def test_no_products_are_returned_when_none_are_asked_for(
    held: Collection, limit: int
) -> None:
    assert await nearest_ids(held.index, EVERYTHING, limit=limit) == []


async def test_get_returns_what_was_written_and_leaves_out_unknown_ids(held: Collection) -> None:
    wanted = [held.shop[row] for row in (0, 1, 2, 3, 4, 77)]
    ids = [each.product.product_id for each in wanted]
    found = await held.index.get([*ids, "never sold", ids[0]], timeout_s=TIMEOUT_S)
    assert set(found) == set(ids)
    for each in wanted:
        held_product = found[each.product.product_id]
        assert held_product.product == each.product
        np.testing.assert_allclose(held_product.embedding, each.embedding, atol=1e-6)
        np.testing.assert_array_equal(held_product.content, each.content)


async def test_get_of_nothing_is_nothing(held: Collection) -> None:
    assert await held.index.get([], timeout_s=TIMEOUT_S) == {}


async def test_describe_counts_the_products(held: Collection) -> None:
    info = await held.index.describe(timeout_s=TIMEOUT_S)
    assert (info.n_products, info.embedding_size) == (len(held.shop), shops.EMBEDDING_SIZE)


async def test_a_new_product_is_found_by_the_next_query(held: Collection) -> None:
    new = IndexedProduct(Product("new", title="New"), query(), np.arange(6, dtype=np.int32))
    await held.index.upsert([new], timeout_s=TIMEOUT_S)
    assert await nearest_ids(held.index, ProductFilter(), limit=1) == ["new"]
    assert (await held.index.describe(timeout_s=TIMEOUT_S)).n_products == len(held.shop) + 1


async def test_an_updated_product_replaces_what_was_held(held: Collection) -> None:
    old = held.shop[10]
    # Read it first, so that an index that remembers products has to forget it.
    assert old.product.product_id in await nearest_ids(held.index, EVERYTHING)
    changed = replace(old.product, title="", price=Decimal("1.5"), in_stock=False, categories=())
    embedding = query()
    await held.index.upsert(
        [IndexedProduct(changed, embedding, old.content + 1)], timeout_s=TIMEOUT_S
    )
    assert changed.product_id not in await nearest_ids(held.index, ProductFilter())
    cheap = ProductFilter(minimum_price=1.5, maximum_price=1.5, out_of_stock_included=True)
    (candidate,) = await held.index.nearest(
        query(), limit=5, product_filter=cheap, timeout_s=TIMEOUT_S
    )
    assert candidate.product == changed
    got = (await held.index.get([changed.product_id], timeout_s=TIMEOUT_S))[changed.product_id]
    np.testing.assert_array_equal(got.content, old.content + 1)
    assert (await held.index.describe(timeout_s=TIMEOUT_S)).n_products == len(held.shop)


async def test_a_deleted_product_is_gone_for_the_next_query(held: Collection) -> None:
    gone = expected(held.shop, query(), EVERYTHING)[:2]
    await nearest_ids(held.index, EVERYTHING)
    await held.index.delete([*gone, "never sold"], timeout_s=TIMEOUT_S)
    assert (
        await nearest_ids(held.index, EVERYTHING) == (expected(held.shop, query(), EVERYTHING)[2:])
    )
    assert await held.index.get(gone, timeout_s=TIMEOUT_S) == {}


async def test_writing_and_deleting_nothing_changes_nothing(held: Collection) -> None:
    await held.index.upsert([], timeout_s=TIMEOUT_S)
    await held.index.delete([], timeout_s=TIMEOUT_S)
    assert (await held.index.describe(timeout_s=TIMEOUT_S)).n_products == len(held.shop)


async def test_products_are_written_all_or_none(held: Collection) -> None:
    good = replace(held.shop[0], product=Product("good"))
    bad = IndexedProduct(Product("bad"), np.ones(3, dtype=np.float32), held.shop[0].content)
    with pytest.raises(ReleaseMismatch, match=r"shape \(3,\), not \(16,\)"):
        await held.index.upsert([good, bad], timeout_s=TIMEOUT_S)
    assert await held.index.get(["good", "bad"], timeout_s=TIMEOUT_S) == {}


async def test_an_embedding_of_another_size_does_not_fit_the_release(held: Collection) -> None:
    with pytest.raises(ReleaseMismatch):
        await held.index.nearest(
            np.ones(8, dtype=np.float32), limit=1, product_filter=EVERYTHING, timeout_s=TIMEOUT_S
        )


async def test_every_call_without_time_left_is_unavailable(held: Collection) -> None:
    index = held.index
    for call in (
        index.describe(timeout_s=0.0),
        index.nearest(query(), limit=1, product_filter=EVERYTHING, timeout_s=0.0),
        index.get(["p7"], timeout_s=0.0),
        index.upsert(held.shop[:1], timeout_s=-1.0),
        index.delete(["p7"], timeout_s=0.0),
    ):
        with pytest.raises(IndexUnavailable):
            await call


async def test_closing_twice_is_fine(held: Collection) -> None:
    await held.index.close()
    await held.index.close()


async def test_an_index_at_rest_is_optimized_and_finds_what_an_exact_search_finds(
    held: Collection,
) -> None:
    assert await held.index.is_optimized(timeout_s=TIMEOUT_S)
    assert await held.index.recall(shops.unit_vectors(10), k=10, timeout_s=TIMEOUT_S) >= 0.98
