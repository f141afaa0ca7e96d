"""What loading a collection into Qdrant promises, and what happens when Qdrant does not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from qdrant_client import AsyncQdrantClient, models

from shopintent.artifacts import IndexedProduct, Manifest, ReleaseFolder
from shopintent.server.errors import IndexUnavailable, ReleaseMismatch
from shopintent.server.index.qdrant import QdrantProductIndex, connect, load_collection
from support import shop as shops
from support.index_suite import EVERYTHING, TIMEOUT_S, query

pytestmark = [
    # The in-process mode of qdrant-client, which stands in for a server, says this of itself.
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
]


@pytest.fixture(scope="module")
def shop() -> list[IndexedProduct]:
    return shops.indexed(shops.products())


@pytest.fixture(scope="module")
def manifest(shop: list[IndexedProduct]) -> Manifest:
    return shops.manifest(len(shop))


@pytest.fixture(scope="module")
def release(shop: list[IndexedProduct], tmp_path_factory: pytest.TempPathFactory) -> ReleaseFolder:
    return shops.write_release(tmp_path_factory.mktemp("release"), shop)


async def test_a_missing_collection_does_not_fit_the_release(manifest: Manifest) -> None:
    index = QdrantProductIndex(AsyncQdrantClient(":memory:"), manifest)
    with pytest.raises(ReleaseMismatch, match="load-index"):
        await index.describe(timeout_s=TIMEOUT_S)
    await index.close()


async def test_a_half_loaded_collection_does_not_fit_until_it_is_loaded_again(
    release: ReleaseFolder, manifest: Manifest
) -> None:
    def stop_halfway(done: int, total: int) -> None:
        raise KeyboardInterrupt

    client = AsyncQdrantClient(":memory:")
    index = QdrantProductIndex(client, manifest)
    with pytest.raises(KeyboardInterrupt):
        await load_collection(client, release, manifest, on_progress=stop_halfway, poll_s=0.01)
    with pytest.raises(ReleaseMismatch, match="not loaded completely"):
        await index.describe(timeout_s=TIMEOUT_S)
    await load_collection(client, release, manifest, poll_s=0.01)
    assert (await index.describe(timeout_s=TIMEOUT_S)).n_products == manifest.n_products
    await index.close()


async def test_loading_leaves_a_complete_collection_alone(
    release: ReleaseFolder, manifest: Manifest
) -> None:
    client = AsyncQdrantClient(":memory:")
    index = QdrantProductIndex(client, manifest)
    await load_collection(client, release, manifest, poll_s=0.01)
    await index.delete(["p7"], timeout_s=TIMEOUT_S)
    await load_collection(client, release, manifest, poll_s=0.01)
    assert await index.get(["p7"], timeout_s=TIMEOUT_S) == {}
    newer = replace(manifest, created_at="2026-02-02T00:00:00Z")
    with pytest.raises(ReleaseMismatch):
        await QdrantProductIndex(client, newer).describe(timeout_s=TIMEOUT_S)
    await load_collection(client, release, newer, poll_s=0.01)
    assert set(await index.get(["p7"], timeout_s=TIMEOUT_S)) == {"p7"}
    await index.close()


class BusyQdrant(AsyncQdrantClient):
    """Says that it is optimizing until told otherwise."""

    busy = True

    async def get_collection(self, collection_name: str, **kwargs: object) -> models.CollectionInfo:
        info = await super().get_collection(collection_name)
        status = models.CollectionStatus.YELLOW if self.busy else info.status
        return info.model_copy(update={"status": status})


async def test_a_collection_is_not_complete_before_qdrant_has_optimized_it(
    release: ReleaseFolder, manifest: Manifest
) -> None:
    client = BusyQdrant(":memory:")
    index = QdrantProductIndex(client, manifest)
    with pytest.raises(IndexUnavailable, match=r"over 0\.05 s"):
        await load_collection(client, release, manifest, poll_s=0.01, optimize_timeout_s=0.05)
    with pytest.raises(ReleaseMismatch):
        await index.describe(timeout_s=TIMEOUT_S)
    client.busy = False
    await load_collection(client, release, manifest, poll_s=0.01)
    await index.describe(timeout_s=TIMEOUT_S)
    await index.close()


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def test_an_unreachable_qdrant_is_unavailable(
    manifest: Manifest, closed_port: int, shop: list[IndexedProduct]
) -> None:
    index = QdrantProductIndex(
        connect(f"http://127.0.0.1:{closed_port}", grpc_port=closed_port), manifest
    )
    for call in (
        index.describe(timeout_s=2.0),
        index.nearest(query(), limit=1, product_filter=EVERYTHING, timeout_s=2.0),
        index.get(["p7"], timeout_s=2.0),
        index.upsert(shop[:1], timeout_s=2.0),
        index.delete(["p7"], timeout_s=2.0),
    ):
        with pytest.raises(IndexUnavailable, match="Qdrant said UNAVAILABLE"):
            await call
    await index.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on which connections are made and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_silent_qdrant_is_unavailable_when_time_is_up(
    manifest: Manifest, silent_port: int
) -> None:
    client = connect(f"http://127.0.0.1:{silent_port}", grpc_port=silent_port)
    index = QdrantProductIndex(client, manifest)
    with pytest.raises(IndexUnavailable, match=r"over 0\.1 s"):
        await index.get(["p7"], timeout_s=0.1)
    await index.close()
