"""A real release on disk, fakes for everything outside the server, and the server around them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from shopintent.artifacts import (
    IndexedProduct,
    ReleaseFolder,
    ReleasesRoot,
    signature,
    write_products,
)
from shopintent.artifacts.integrity import seal
from shopintent.artifacts.routing import Routing
from shopintent.artifacts.signature import FINGERPRINT_PARAMETER
from shopintent.behavior import (
    EVENT_TYPES,
    Behavior,
    BehaviorTokenizer,
    Vocabulary,
    product_text,
)
from shopintent.behavior.codebook import ContentCodebook
from shopintent.behavior.products import category_and_ancestors
from shopintent.behavior.vocabulary import FIRST
from shopintent.server.app import App
from shopintent.server.catalog_journal import CatalogJournal
from shopintent.server.config import Config, read_placements
from shopintent.server.errors import ModelUnavailable
from shopintent.server.inference import ModelDescription, Prediction
from shopintent.server.logs import JsonFormatter
from shopintent.server.popularity.keeping import PopularityKeeper
from shopintent.server.releases import Release, load_release
from shopintent.server.serving import Backends, ServingRelease, serve_release
from shopintent.server.sessions.memory import InMemorySessions
from shopintent.server.traffic import Traffic
from shopintent.v1 import (
    catalog_service_pb2_grpc,
    event_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)
from support import shop as shops
from support.fake_index import FakeProductIndex

TEXT_SIZE = 8
N_PRODUCTS = 40
N_TRAINED = 30
"""Products of the vocabulary; the last ten came to the catalog after training."""


def text_embeddings(texts: Sequence[str]) -> NDArray[np.float32]:
    """Returns [N, TEXT_SIZE]: the same for the same text, zeros for an empty one."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
    rows = [shops.unit_vectors(1, TEXT_SIZE, seed=seed)[0] for seed in seeds]
    empty = np.zeros(TEXT_SIZE, dtype=np.float32)
    return np.array([row if text else empty for row, text in zip(rows, texts, strict=True)])


def make_tokenizer(*, max_events: int = 16) -> BehaviorTokenizer:
    """Returns a tokenizer fitted to the first N_TRAINED products of the small shop."""
    trained = shops.products(N_TRAINED)
    paths = {p for each in trained for c in each.categories for p in category_and_ancestors(c)}
    centroids = shops.unit_vectors(3 * 4, TEXT_SIZE, seed=7).reshape(3, 4, TEXT_SIZE)
    tokenizer = BehaviorTokenizer(
        event_types=Vocabulary(EVENT_TYPES),
        products=Vocabulary(tuple(product.product_id for product in trained)),
        categories=Vocabulary(tuple(sorted(paths))),
        brands=Vocabulary(("Acme",)),
        codebook=ContentCodebook(centroids),
        price_edges=np.array([5.0, 10.0, 50.0]),
        product_table=np.zeros((N_TRAINED + FIRST, 6), dtype=np.int32),
        max_events=max_events,
    )
    embeddings = text_embeddings([product_text(product) for product in trained])
    table = np.vstack(
        [np.zeros((FIRST, 6), dtype=np.int32), tokenizer.encode_content(trained, embeddings)]
    )
    return replace(tokenizer, product_table=table)


def write_small_release(root: ReleasesRoot, release_id: str = "r1") -> ReleaseFolder:
    """Writes a whole release of the small shop and names it current."""
    folder = root.release(release_id)
    folder.path.mkdir(parents=True)
    products = shops.products(N_PRODUCTS)
    tokenizer = make_tokenizer()
    content = tokenizer.encode_content(
        products, text_embeddings([product_text(product) for product in products])
    )
    write_products(folder, products, shops.unit_vectors(N_PRODUCTS), content)
    tokenizer.save(folder.behavior_tokenizer)
    words = Tokenizer(WordLevel({"[UNK]": 0, "red": 1, "chair": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.save(str(folder.text_tokenizer))
    manifest = replace(
        shops.manifest(N_PRODUCTS, release_id=release_id),
        behavior_fingerprint=tokenizer.fingerprint,
        text_embedding_size=TEXT_SIZE,
    )
    for model in root.models(release_id):
        (model / "1").mkdir(parents=True)
        (model / "1" / "model.onnx").write_bytes(b"a graph that only fakes serve")
        (model / "config.pbtxt").write_text(
            f'name: "{model.name}"\nparameters {{ key: "{FINGERPRINT_PARAMETER}" '
            f'value {{ string_value: "{tokenizer.fingerprint}" }} }}\n',
            encoding="utf-8",
        )
    seal(root, manifest)
    root.set_current(release_id)
    return folder


OPTIONAL_ANSWERS_GIVEN = {
    signature.VISIT_PURCHASE_PROBABILITY: 0.25,
    signature.EXPECTED_TIME_TO_PURCHASE_S: 5_400.25,
    signature.EXPECTED_QUANTITY: 2.5,
}


class FakeBehaviorModel:
    """Embeds a behavior where its last known product is. Set `down` or `delay_s` to hinder it."""

    def __init__(self, release: Release, products: Sequence[IndexedProduct]) -> None:
        self._manifest = release.manifest
        ids = release.tokenizer.products
        self._embeddings = {ids.lookup(p.product.product_id): p.embedding for p in products}
        self.down = False
        self.delay_s = 0.0
        self.behaviors: list[Behavior] = []
        self.request_times: list[int] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def predict(
        self, behavior: Behavior, *, request_time: int, timeout_s: float
    ) -> Prediction:
        self.behaviors.append(behavior)
        self.request_times.append(request_time)
        self.asked.set()
        try:
            await asyncio.sleep(min(self.delay_s, timeout_s))
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.down or self.delay_s > timeout_s:
            name = f"intent_{self._manifest.release_id}"
            raise ModelUnavailable(name, "it is down" if self.down else "it is slow")
        n_actions = len(self._manifest.actions)
        shares = np.arange(1, n_actions + 1, dtype=np.float32)
        known = [int(token) for token in behavior.tokens[:, 1] if token >= FIRST]
        return Prediction(
            next_actions=shares / shares.sum(),
            purchases=np.linspace(0.1, 0.2, len(self._manifest.horizons_s), dtype=np.float32),
            behavior_embedding=self._embeddings[known[-1] if known else FIRST],
            optional_answers=OPTIONAL_ANSWERS_GIVEN,
            model_version="1",
        )


class FakeContentEncoder:
    """Embeds texts by their hash. Set `down` to make it fail; `texts` are those it was asked."""

    def __init__(self) -> None:
        self.down = False
        self.texts: list[str] = []

    async def encode_texts(self, texts: Sequence[str], *, timeout_s: float) -> NDArray[np.float32]:
        self.texts += texts
        if self.down:
            raise ModelUnavailable("text_encoder_r1", "it is down")
        return text_embeddings(texts)

    async def encode_products(
        self,
        product_tokens: NDArray[np.int32],
        text_embeddings: NDArray[np.float32],
        *,
        timeout_s: float,
    ) -> NDArray[np.float32]:
        if self.down:
            raise ModelUnavailable("product_encoder_r1", "it is down")
        wide = np.hstack([product_tokens + 1.0, text_embeddings, text_embeddings])
        cut = wide[:, : shops.EMBEDDING_SIZE]
        embeddings: NDArray[np.float32] = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        return embeddings.astype(np.float32)


class FakeRepository:
    """Serves exactly the models of a release; `models` may be changed, `down` set."""

    def __init__(self, release: Release) -> None:
        self.models = descriptions(release)
        self.down = False

    async def describe(self, model_name: str, *, timeout_s: float) -> ModelDescription:
        if self.down or model_name not in self.models:
            raise ModelUnavailable(model_name, "it is down" if self.down else "it is not loaded")
        return self.models[model_name]

    async def load(self, model_name: str, *, timeout_s: float) -> None:
        await self.describe(model_name, timeout_s=timeout_s)

    async def unload(self, model_name: str, *, timeout_s: float) -> None:
        self.models.pop(model_name, None)


def descriptions(release: Release) -> dict[str, ModelDescription]:
    """Returns what Triton says of the models that the trainer exports for a release."""
    manifest = release.manifest
    intent = signature.intent_signature(
        n_actions=len(manifest.actions),
        n_horizons=len(manifest.horizons_s),
        embedding_size=manifest.embedding_size,
    )
    text = signature.text_encoder_signature(text_embedding_size=manifest.text_embedding_size)
    product = signature.product_encoder_signature(
        text_embedding_size=manifest.text_embedding_size, embedding_size=manifest.embedding_size
    )
    fingerprint = {FINGERPRINT_PARAMETER: release.tokenizer.fingerprint}
    return {
        release.intent_model: ModelDescription(intent, 64, fingerprint),
        release.text_encoder: ModelDescription(text, 64, {}),
        release.product_encoder: ModelDescription(product, 64, {}),
    }


@dataclass(frozen=True, eq=False)
class Outside:
    """Everything outside the server, as fakes."""

    release: Release
    model: FakeBehaviorModel
    encoder: FakeContentEncoder
    repository: FakeRepository
    index: FakeProductIndex
    journal: CatalogJournal
    sessions: InMemorySessions = field(default_factory=InMemorySessions)


def make_outside(folder: Path, release_id: str = "r1") -> Outside:
    """Writes a release into the folder and returns fakes that fit it."""
    root = ReleasesRoot(folder)
    write_small_release(root, release_id)
    release = load_release(root, "")
    products = [
        replace(each, content=content)
        for each, content in zip(
            shops.indexed(shops.products(N_PRODUCTS)),
            np.load(release.folder.product_content),
            strict=True,
        )
    ]
    return Outside(
        release=release,
        model=FakeBehaviorModel(release, products),
        encoder=FakeContentEncoder(),
        repository=FakeRepository(release),
        index=FakeProductIndex(products, embedding_size=release.manifest.embedding_size),
        journal=CatalogJournal.open(folder / "state" / "catalog.sqlite"),
    )


@dataclass(frozen=True, eq=False)
class Stubs:
    """A server in this process and a channel to it."""

    app: App
    channel: grpc.aio.Channel

    @property
    def recommendation(self) -> Any:
        return recommendation_service_pb2_grpc.RecommendationServiceStub(self.channel)

    @property
    def events(self) -> Any:
        return event_service_pb2_grpc.EventServiceStub(self.channel)

    @property
    def catalog(self) -> Any:
        return catalog_service_pb2_grpc.CatalogServiceStub(self.channel)

    async def health(self, service: str = "") -> str:
        """Returns the name of the health status of a service."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


@dataclass(frozen=True, eq=False)
class Served(Stubs):
    """A server of one release, and its fakes."""

    outside: Outside


def open_release(config: Config, outside: Outside) -> ServingRelease:
    """Returns the release of the fakes, opened."""
    backends = Backends(outside.model, outside.encoder, outside.repository, outside.index)
    weights = read_placements(config.placements)
    return serve_release(config, outside.release, backends, weights, outside.index.close)


def app_of(config: Config, outside: Outside) -> App:
    """Returns the server of one release that asks the fakes."""
    release = open_release(config, outside)
    traffic = Traffic(release, Routing(release.release_id))
    popular = release.popular
    keeper = PopularityKeeper(popular.popularity, outside.sessions, popular.category_of)
    return App(config, outside.sessions, outside.journal, traffic, keeper=keeper)


@asynccontextmanager
async def serving(outside: Outside, **options: Any) -> AsyncIterator[Served]:
    """Runs a server of one release on a free port, checked once."""
    async with running(app_of(config_of(**options), outside)) as channel_app:
        yield Served(*channel_app, outside)


@asynccontextmanager
async def served_by(
    traffic: Traffic, journal: CatalogJournal | None = None
) -> AsyncIterator[Stubs]:
    """Runs a server of several releases on a free port, checked once."""
    with TemporaryDirectory() as folder:
        journal = journal or CatalogJournal.open(Path(folder) / "catalog.sqlite")
        async with running(App(config_of(), InMemorySessions(), journal, traffic)) as channel_app:
            yield Stubs(*channel_app)


def config_of(**options: Any) -> Config:
    """Returns options for a test: later checks are its own to ask for."""
    defaults: dict[str, Any] = {"listen": "127.0.0.1:0", "check_interval_s": 3600.0, "grace_s": 2.0}
    return Config(**{**defaults, **options})


@asynccontextmanager
async def running(app: App) -> AsyncIterator[tuple[App, grpc.aio.Channel]]:
    """Runs a server, checked once, and yields it with a channel to it."""
    port = await app.start()
    await app.check()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield app, channel
    finally:
        await app.stop()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once the condition holds; fails when it does not within 20 seconds."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - what is waited for tells nobody.
            await asyncio.sleep(0.02)


async def call_lines(caplog: pytest.LogCaptureFixture, n_calls: int) -> list[str]:
    """Returns the lines that the log holds of calls, as soon as there are as many."""

    def lines() -> list[str]:
        said = [each for each in caplog.records if each.message == "call"]
        return [line for each in said for line in JsonFormatter().format(each).splitlines()]

    async def there() -> bool:
        return len(lines()) >= n_calls

    await eventually(there)
    return lines()


@dataclass(frozen=True)
class Failure:
    """How a call failed, its details unpacked."""

    code: grpc.StatusCode
    message: str
    info: Any
    violations: dict[str, str]
    retry_delay_s: float | None


async def failure_of(call: Any) -> Failure:
    """Awaits a call that must fail and returns how it did."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return unpack(error)
    raise AssertionError(f"the call succeeded: {answer}")


def unpack(error: grpc.aio.AioRpcError) -> Failure:
    """Returns the details of an error; there must be exactly one ErrorInfo."""
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, f"{error.code()} without details: {error.details()}"
    found: dict[str, Any] = {}
    for detail in status.details:
        for message in (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        ):
            if detail.Is(message.DESCRIPTOR):
                assert message.DESCRIPTOR.name not in found, "a detail came twice"
                detail.Unpack(message)
                found[message.DESCRIPTOR.name] = message
    bad = found.get("BadRequest", error_details_pb2.BadRequest())
    retry = found.get("RetryInfo")
    return Failure(
        code=error.code(),
        message=error.details() or "",
        info=found["ErrorInfo"],
        violations={each.field: each.description for each in bad.field_violations},
        retry_delay_s=None if retry is None else retry.retry_delay.ToMilliseconds() / 1000,
    )
