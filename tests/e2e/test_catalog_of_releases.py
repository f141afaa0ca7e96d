"""Products written between releases: seen by every server at once, and not lost by a promotion."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.demo.stack import model_control_key, server, triton
from shopintent.artifacts import ReleasesRoot
from shopintent.server.release_control import managing_releases
from shopintent.server.releases.manager import Reason
from shopintent.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import AVAILABILITY_IN_STOCK, Product
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent
from support.rollouts import config_of, publish_another
from support.trained import RELEASE, Trained
from support.triton import skip_unless_supported

pytestmark = pytest.mark.releases

OTHER = "other"
BECAUSE = Reason("test", "it is tested")
SHELF = "Only for this test > Shelf"
PATIENCE_S = 10.0


@pytest.fixture
def root(trained: Trained, tmp_path: Path) -> ReleasesRoot:
    """Two releases; the first one serves."""
    skip_unless_supported()
    root = ReleasesRoot(tmp_path / "releases")
    shutil.copytree(trained.releases.path, root.path)
    publish_another(trained, root, OTHER, seed=1)
    return root


class Client:
    """Calls of one server."""

    def __init__(self, channel: grpc.aio.Channel, viewed: str) -> None:
        # Whoever did nothing yet is shown what is popular, which new products are not.
        self.viewed = UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=viewed)
        self.catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self.recommendation: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(
            channel
        )

    async def write(self, *products: Product) -> None:
        request = catalog_service_pb2.BatchUpdateProductsRequest(products=products)
        await self.catalog.BatchUpdateProducts(request, timeout=PATIENCE_S)

    async def shelf(self) -> tuple[str, set[str]]:
        """Returns the release that answers, and what it recommends from the shelf."""
        shelf = pb.ProductFilter(categories=[SHELF])
        request = pb.RecommendRequest(filter=shelf, recent_events=[self.viewed])
        answer = await self.recommendation.Recommend(request, timeout=PATIENCE_S)
        return answer.model.release_id, {each.product.id for each in answer.recommendations}

    async def shows(self, release_id: str, *product_ids: str, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            wanted = (release_id, set(product_ids))
            while await self.shelf() != wanted:  # noqa: ASYNC110 - what is waited for tells nobody.
                await asyncio.sleep(0.02)


def on_shelf(product_id: str) -> Product:
    return Product(
        id=product_id, title="Lamp", categories=[SHELF], availability=AVAILABILITY_IN_STOCK
    )


@asynccontextmanager
async def client_of(address: str, trained: Trained) -> AsyncIterator[Client]:
    viewed = next(trained.dataset.products()).product_id
    async with grpc.aio.insecure_channel(address) as channel:
        yield Client(channel, viewed)


async def test_products_written_between_releases_are_seen_at_once_and_stay(
    trained: Trained, root: ReleasesRoot, tmp_path: Path
) -> None:
    logs = [tmp_path / "logs" / name for name in ("triton", "one", "two", "two again")]
    for folder in logs:
        folder.mkdir(parents=True)
    with triton(root, RELEASE, logs[0]) as (_, address):
        key = model_control_key(logs[0])

        def running(number: int, index: str) -> Any:
            options = [f"--index-path={tmp_path / index}", "--routing-interval-s=0.1"]
            return server(
                root, address, logs[number], server_options=options, model_control_key=key
            )

        config = config_of(root, address, key, index_path=tmp_path / "index-1")
        with running(1, "index-1") as (_, one_at), running(2, "index-2") as (process, two_at):
            async with (
                client_of(one_at, trained) as one,
                client_of(two_at, trained) as two,
                managing_releases(config) as manager,
            ):
                await one.write(on_shelf("a"), on_shelf("b"))
                assert await one.shelf() == (RELEASE, {"a", "b"})
                await two.shows(RELEASE, "a", "b", within_s=2.0)
                await two.write(on_shelf("c"))
                delete = catalog_service_pb2.DeleteProductRequest(product_id="a")
                await two.catalog.DeleteProduct(delete, timeout=PATIENCE_S)
                await one.shows(RELEASE, "b", "c", within_s=2.0)
                await manager.promote(OTHER, BECAUSE)
                await one.shows(OTHER, "b", "c", within_s=PATIENCE_S)
                await two.shows(OTHER, "b", "c", within_s=PATIENCE_S)
                process.popen.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.popen.wait)
                await one.write(on_shelf("d"))
        with running(3, "index-2") as (_, two_at):
            async with client_of(two_at, trained) as two:
                started = time.monotonic()
                await two.shows(OTHER, "b", "c", "d", within_s=PATIENCE_S)
                assert time.monotonic() - started < 2.0
