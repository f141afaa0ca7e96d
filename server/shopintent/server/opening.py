"""Opens releases with the real Triton and the configured index.

With app.py this is where adapters are chosen; everything else knows their interfaces.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from tokenizers import Tokenizer

from shopintent.artifacts import ReleaseError, ReleasesRoot, layout
from shopintent.artifacts.integrity import verify_release
from shopintent.server.catalog_journal import CatalogJournal, release_key
from shopintent.server.config import Config, read_placements, read_qdrant_api_key, state_folder
from shopintent.server.errors import ModelUnavailable
from shopintent.server.index import ProductIndex, edge_files
from shopintent.server.index.edge import EdgeProductIndex
from shopintent.server.index.qdrant import (
    QdrantProductIndex,
    connect,
    delete_collection,
    load_collection,
)
from shopintent.server.inference.triton import (
    CHANNEL_OPTIONS,
    GrpcCalls,
    HttpCalls,
    ModelCalls,
    TritonBehaviorModel,
    TritonContentEncoder,
    TritonRepository,
)
from shopintent.server.metrics import Metrics
from shopintent.server.popularity.counters import Popularity
from shopintent.server.releases import Release, load_release
from shopintent.server.serving import Backends, ServingRelease, serve_release

logger = logging.getLogger(__name__)

UNLOAD_TIMEOUT_S = 30.0
PROGRESS_EVERY_S = 5.0
JOURNAL_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Triton:
    """The ways to one Triton."""

    channel: grpc.aio.Channel
    calls: ModelCalls


@asynccontextmanager
async def triton_of(config: Config) -> AsyncIterator[Triton]:
    """Yields the ways to the configured Triton, which need not be there yet."""
    address, http_address = config.triton_address, config.triton_http_address
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        if not http_address:
            yield Triton(channel, GrpcCalls(channel))
            return
        async with HttpCalls(http_address) as calls:
            yield Triton(channel, calls)


class ReleaseOpener:
    """Opens releases of the releases root with Triton and the configured index."""

    def __init__(
        self,
        config: Config,
        triton: Triton,
        worker: int | str = 0,
        metrics: Metrics | None = None,
        popularity: Popularity | None = None,
    ) -> None:
        self._config = config
        self._worker = worker
        self._metrics = metrics or Metrics()
        self._popularity = popularity or Popularity(capacity=config.popular_products)
        self._triton = triton
        self._repository = TritonRepository(triton.channel, config.triton_model_control_key or None)
        self._weights = read_placements(config.placements)

    def beside(self) -> ReleaseOpener:
        """Returns one for releases that this one may open at the same time."""
        return ReleaseOpener(
            self._config,
            self._triton,
            f"beside-{self._worker}",
            self._metrics,
            self._popularity,
        )

    async def open_by_id(self, release_id: str) -> ServingRelease:
        """Opens a release of the root, the serving one where no id is given.

        Its files are those that were published. Raises ReleaseError and IndexUnavailable.
        """
        root = ReleasesRoot(self._config.releases)
        release = await asyncio.to_thread(load_release, root, release_id)
        await asyncio.to_thread(verify_release, root, release.release_id)
        return await self.open(release)

    async def open(self, release: Release) -> ServingRelease:
        """Opens a release; it is not verified yet. Raises ReleaseError and IndexUnavailable."""
        text_tokenizer = _read_text_tokenizer(release.folder.text_tokenizer)
        index = await _open_index(self._config, release, self._worker)
        manifest = release.manifest
        backends = Backends(
            model=TritonBehaviorModel(
                self._triton.calls,
                model_name=release.intent_model,
                max_events=release.tokenizer.max_events,
                n_actions=len(manifest.actions),
                n_horizons=len(manifest.horizons_s),
                embedding_size=manifest.embedding_size,
                answers=manifest.answers,
                metrics=self._metrics,
            ),
            encoder=TritonContentEncoder(
                self._triton.calls,
                text_encoder=release.text_encoder,
                product_encoder=release.product_encoder,
                text_tokenizer=text_tokenizer,
                max_text_tokens=manifest.max_text_tokens,
                text_embedding_size=manifest.text_embedding_size,
                embedding_size=manifest.embedding_size,
            ),
            repository=self._repository,
            index=index,
        )
        # Reading products takes a tenth of a second, in which others are to be answered.
        return await asyncio.to_thread(
            serve_release,
            self._config,
            release,
            backends,
            self._weights,
            index.close,
            self._metrics,
            self._popularity,
        )

    async def unload_models(self, release_id: str) -> None:
        """Frees the models of a release in Triton.

        Those that Triton does not let go of stay; without the key that is all of them.
        """
        for model_name in layout.models(release_id):
            with suppress(ModelUnavailable):
                await self._repository.unload(model_name, timeout_s=UNLOAD_TIMEOUT_S)


async def _open_index(config: Config, release: Release, worker: int | str) -> ProductIndex:
    if config.index == "edge":
        logger.info("opening the index", extra={"fields": {"release": release.release_id}})
        return await asyncio.to_thread(
            EdgeProductIndex.open,
            _index_path(config),
            release.folder,
            release.manifest,
            worker=worker,
            on_progress=_logging_progress(release.release_id),
        )
    client = connect(config.qdrant_url, api_key=read_qdrant_api_key(config))
    return QdrantProductIndex(client, release.manifest)


def _logging_progress(release_id: str) -> Callable[[int, int], None]:
    """Returns what logs, now and then, how far the index is that is being built."""
    logged_at = time.monotonic()

    def log(done: int, total: int) -> None:
        nonlocal logged_at
        if time.monotonic() - logged_at > PROGRESS_EVERY_S:
            logged_at = time.monotonic()
            fields = {"release": release_id, "products": done, "of": total}
            logger.info("building the index", extra={"fields": fields})

    return log


def _index_path(config: Config) -> Path:
    return config.index_path or config.releases / "index"


def _read_text_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises nothing narrower.
        raise ReleaseError(f"{path} cannot be read: {error}; publish the release again") from error


async def load_index(config: Config, on_progress: Callable[[int, int], None]) -> Release:
    """Loads the release's products into the configured index and returns the release.

    What is there already is not loaded again. `on_progress` is told (done, total) products.
    """
    release = load_release(ReleasesRoot(config.releases), config.release)
    if config.index == "edge":
        path, folder, manifest = _index_path(config), release.folder, release.manifest
        await asyncio.to_thread(
            EdgeProductIndex.build, path, folder, manifest, on_progress=on_progress
        )
        return release
    client = connect(config.qdrant_url, api_key=read_qdrant_api_key(config))
    try:
        await load_collection(client, release.folder, release.manifest, on_progress=on_progress)
    finally:
        await client.close()
    # If it was loaded anew, servers that start from now on apply the whole journal to it.
    journal = CatalogJournal.open(state_folder(config) / "catalog.sqlite")
    await journal.mark_applied(release_key(release.manifest), 0, timeout_s=JOURNAL_TIMEOUT_S)
    await journal.close()
    return release


async def remove_collection(config: Config, release_id: str) -> None:
    """Deletes the product collection of a release from the configured index, if it is there."""
    if config.index == "edge":
        # Copies that other workers have open stay until they ask for the same.
        await asyncio.to_thread(edge_files.remove, _index_path(config), release_id)
        return
    client = connect(config.qdrant_url, api_key=read_qdrant_api_key(config))
    try:
        await delete_collection(client, release_id)
    finally:
        await client.close()
