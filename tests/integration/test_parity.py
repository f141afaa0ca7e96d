"""Training and serving agree: PyTorch, ONNX Runtime and Triton, and the whole server on held-out
shoppers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shopintent.artifacts import layout, signature
from shopintent.artifacts.routing import Routing
from shopintent.behavior import Behavior, Product, product_text
from shopintent.behavior.events import SEARCH, VIEW_CATEGORY
from shopintent.behavior.tokenizer import EMPTY_BEHAVIOR, PRODUCT_FIELDS
from shopintent.behavior.vocabulary import UNKNOWN
from shopintent.server import predict as served_predict
from shopintent.server.app import App
from shopintent.server.catalog_journal import CatalogJournal
from shopintent.server.config import Config, read_placements
from shopintent.server.index.edge import EdgeProductIndex
from shopintent.server.inference import Prediction
from shopintent.server.inference.triton import (
    GrpcCalls,
    HttpCalls,
    TritonBehaviorModel,
    TritonContentEncoder,
    TritonRepository,
)
from shopintent.server.releases import Release, load_release
from shopintent.server.services import convert
from shopintent.server.services import events as served_events
from shopintent.server.services import recommendation as served_recommendation
from shopintent.server.serving import Backends, serve_release
from shopintent.server.sessions.memory import InMemorySessions
from shopintent.server.traffic import Traffic
from shopintent.trainer.data.progress import silent
from shopintent.trainer.export import MODEL_FILE, MODEL_VERSION, ServedIntent
from shopintent.trainer.predict import Predictions, predict
from shopintent.trainer.prefixes import LEARNED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import Inputs, load_catalog, load_inputs
from shopintent.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
    recommendation_service_pb2,
    recommendation_service_pb2_grpc,
)
from shopintent.v1.product_pb2 import PRODUCT_VIEW_FULL
from shopintent.v1.user_event_pb2 import UserEvent, Visitor
from support.trained import MAX_EVENTS, RELEASE, Trained
from support.triton import triton_server

TOLERANCE = 1e-4
PATIENCE_S = 20.0
TEXTS = ["red running shoes", "a", "Стул из дуба", "coffee " * 200, "", "naïve “quotes” & <tags>"]
EVENT_TYPES = {name: number for number, name in convert.EVENT_NAMES.items()}


@dataclass(frozen=True)
class Triton:
    """Where a Triton is, and whether models are asked over HTTP."""

    address: str
    http_address: str
    over_http: bool = True


@pytest.fixture(scope="module")
def triton(trained: Trained) -> Iterator[Triton]:
    """A Triton that serves the models of the release."""
    models = [
        layout.intent_model(RELEASE),
        layout.text_encoder_model(RELEASE),
        layout.product_encoder_model(RELEASE),
    ]
    with triton_server(trained.releases.model_repository, models) as ready:
        yield Triton(ready["grpc"], ready["http"])


@pytest.fixture(scope="module")
def inputs(trained: Trained) -> Inputs:
    """The dataset as the trainer reads it."""
    run = trained.run
    catalog = load_catalog(trained.dataset, known_before(run.info.cut_time))
    encoder = TextEncoder.open(run.folder)
    return load_inputs(trained.dataset, run.tokenizer, encoder, catalog, run.info.actions, silent)


@pytest.fixture
def release(trained: Trained) -> Release:
    return load_release(trained.releases, RELEASE)


def onnx_session(trained: Trained, model: str) -> onnxruntime.InferenceSession:
    path = trained.releases.model_repository / model / str(MODEL_VERSION) / MODEL_FILE
    return onnxruntime.InferenceSession(str(path))


@dataclass(frozen=True, eq=False)
class Models:
    """The models of the release in Triton, as the server reaches them."""

    intent: TritonBehaviorModel
    encoder: TritonContentEncoder
    repository: TritonRepository


@asynccontextmanager
async def models_of(release: Release, triton: Triton) -> AsyncIterator[Models]:
    manifest = release.manifest
    async with (
        grpc.aio.insecure_channel(triton.address) as channel,
        HttpCalls(triton.http_address) as over_http,
    ):
        calls = over_http if triton.over_http else GrpcCalls(channel)
        yield Models(
            TritonBehaviorModel(
                calls,
                model_name=release.intent_model,
                max_events=release.tokenizer.max_events,
                n_actions=len(manifest.actions),
                n_horizons=len(manifest.horizons_s),
                embedding_size=manifest.embedding_size,
                answers=manifest.answers,
            ),
            TritonContentEncoder(
                calls,
                text_encoder=release.text_encoder,
                product_encoder=release.product_encoder,
                text_tokenizer=Tokenizer.from_file(str(release.folder.text_tokenizer)),
                max_text_tokens=manifest.max_text_tokens,
                text_embedding_size=manifest.text_embedding_size,
                embedding_size=manifest.embedding_size,
            ),
            TritonRepository(channel),
        )


def close(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Seconds and units are compared by their size, all others are at most 1."""
    distance = np.abs(first - second) / np.maximum(1.0, np.abs(first))
    return first.shape == second.shape and float(distance.max()) <= TOLERANCE


def behaviors_of_length(trained: Trained, length: int) -> list[Behavior]:
    """Returns behaviors of so many events, every field random among the ids there are."""
    sizes = list(trained.run.tokenizer.sizes.values())
    behaviors = []
    for seed in range(5):
        rng = np.random.default_rng([length, seed])
        columns = [*(rng.integers(1, size, length) for size in sizes), rng.integers(0, 50, length)]
        tokens = np.stack(columns, axis=1)
        pauses = rng.choice([0, 1, 60, 1800, 1801, 90_000, 30 * 86_400], length)
        times = 1_700_000_000 + pauses.cumsum()
        behaviors.append(Behavior(tokens.astype(np.int32), times.astype(np.int64)))
    return behaviors if length else [EMPTY_BEHAVIOR]


def optional(predictions: Predictions) -> tuple[NDArray[np.float32], ...]:
    """Returns [N, 1] of each of signature.OPTIONAL_ANSWERS."""
    return predictions.visit_purchase, predictions.time_to_purchase_s, predictions.quantity


@pytest.mark.parametrize("over_http", [False, True], ids=["grpc", "http"])
@pytest.mark.parametrize("length", [0, 1, 5, MAX_EVENTS - 1, MAX_EVENTS, MAX_EVENTS + 9])
async def test_pytorch_onnx_and_triton_answer_alike(
    trained: Trained, triton: Triton, release: Release, length: int, over_http: bool
) -> None:
    behaviors = behaviors_of_length(trained, length)
    asked = np.array([int(each.event_times.max(initial=1_700_000_000)) + 7 for each in behaviors])
    tokenizer = trained.run.tokenizer
    torched = predict(
        ServedIntent(trained.run.network, trained.run.heads), tokenizer, behaviors, asked, silent
    )
    session = onnx_session(trained, release.intent_model)
    async with models_of(release, replace(triton, over_http=over_http)) as models:
        for n, behavior in enumerate(behaviors):
            window = tokenizer.window(behavior)
            given = {
                signature.EVENTS: window.tokens[None],
                signature.EVENT_TIMES: window.event_times[None],
                signature.REQUEST_TIME: asked[n : n + 1, None],
            }
            by_onnx = session.run(None, given)
            length = signature.sequence_length(len(behavior), tokenizer.max_events)
            by_triton = await models.intent.predict(
                tokenizer.window(behavior, length), request_time=int(asked[n]), timeout_s=PATIENCE_S
            )
            answers = (
                (torched.next_actions[n], by_onnx[0][0], by_triton.next_actions),
                (torched.purchases[n], by_onnx[1][0], by_triton.purchases),
                (torched.behavior_embeddings[n], by_onnx[2][0], by_triton.behavior_embedding),
                *(
                    (column[n], onnx_column[0], np.array([by_triton.optional_answers[name]]))
                    for name, column, onnx_column in zip(
                        signature.OPTIONAL_ANSWERS, optional(torched), by_onnx[3:], strict=True
                    )
                ),
            )
            for by_torch, onnx_row, triton_row in answers:
                assert close(by_torch, onnx_row)
                assert close(by_torch, triton_row)


async def test_behaviors_asked_for_at_once_are_answered_as_each_is_alone(
    trained: Trained, triton: Triton, release: Release
) -> None:
    behaviors = [
        each for n in (0, 1, 5, 11, MAX_EVENTS) for each in behaviors_of_length(trained, n)
    ]
    async with models_of(release, triton) as models:

        async def ask(behavior: Behavior) -> Prediction:
            return await models.intent.predict(
                behavior, request_time=1_800_000_000, timeout_s=PATIENCE_S
            )

        alone = [await ask(each) for each in behaviors]
        together = await asyncio.gather(*map(ask, behaviors))
    for one, batched in zip(alone, together, strict=True):
        for name in ("next_actions", "purchases", "behavior_embedding"):
            assert np.abs(getattr(one, name) - getattr(batched, name)).max() <= 1e-5
        expected = {name: pytest.approx(x, rel=1e-5) for name, x in one.optional_answers.items()}
        assert batched.optional_answers == expected


def test_the_answers_compared_differ_from_behavior_to_behavior(trained: Trained) -> None:
    """Otherwise the comparison above would prove nothing."""
    behaviors = [each for n in (0, 1, 5) for each in behaviors_of_length(trained, n)]
    asked = np.full(len(behaviors), 1_800_000_000)
    served = ServedIntent(trained.run.network, trained.run.heads)
    answers = predict(served, trained.run.tokenizer, behaviors, asked, silent)
    assert trained.run.heads.answers == signature.OPTIONAL_ANSWERS
    outputs_of = (answers.next_actions, answers.purchases, answers.behavior_embeddings)
    for outputs in (*outputs_of, *optional(answers)):
        assert float(outputs.std(axis=0).max()) > 10 * TOLERANCE


@pytest.mark.parametrize("over_http", [False, True], ids=["grpc", "http"])
async def test_texts_are_embedded_alike_by_trainer_and_triton(
    trained: Trained, triton: Triton, release: Release, over_http: bool
) -> None:
    by_trainer = TextEncoder.open(trained.run.folder).encode(TEXTS)
    async with models_of(release, replace(triton, over_http=over_http)) as models:
        by_triton = await models.encoder.encode_texts(TEXTS, timeout_s=PATIENCE_S)
    assert close(by_trainer, by_triton)
    assert float((by_trainer[0] - by_trainer[1]).std()) > 10 * TOLERANCE


async def test_products_are_embedded_alike_by_pytorch_onnx_and_triton(
    trained: Trained, triton: Triton, release: Release
) -> None:
    rng = np.random.default_rng(5)
    sizes = trained.run.tokenizer.sizes
    columns = [rng.integers(0, sizes[name], 70) for name in PRODUCT_FIELDS]
    tokens = np.stack(columns, axis=1).astype(np.int32)
    size = (70, release.manifest.text_embedding_size)
    texts = rng.normal(scale=0.05, size=size).astype(np.float32)
    texts[3] = 0.0
    with torch.no_grad():
        by_torch = trained.run.network.products(torch.tensor(tokens), torch.tensor(texts)).numpy()
    session = onnx_session(trained, release.product_encoder)
    given = {signature.PRODUCT_TOKENS: tokens, signature.TEXT_EMBEDDING: texts}
    (by_onnx,) = session.run(None, given)
    async with models_of(release, triton) as models:
        by_triton = await models.encoder.encode_products(tokens, texts, timeout_s=PATIENCE_S)
    assert close(by_torch, by_onnx)
    assert close(by_torch, by_triton)


class Clock:
    """What the server takes for the present."""

    def __init__(self) -> None:
        self.now = 0

    def time(self) -> float:
        return float(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (served_predict, served_events, served_recommendation):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=clock.time))
    return clock


@dataclass(frozen=True, eq=False)
class Server:
    """Stubs of a real server in this process, and its index."""

    events: Any
    recommendation: Any
    catalog: Any
    index: EdgeProductIndex


@asynccontextmanager
async def serving(release: Release, triton: Triton, folder: Path) -> AsyncIterator[Server]:
    """Runs the whole server with a real index and a real Triton, on a free port."""
    config = Config(listen="127.0.0.1:0", grace_s=0.0, check_interval_s=3600.0)
    config = replace(config, answer_timeout_s=PATIENCE_S, check_timeout_s=PATIENCE_S)
    index = EdgeProductIndex.open(folder, release.folder, release.manifest)
    async with models_of(release, triton) as models:
        backends = Backends(
            model=models.intent,
            encoder=models.encoder,
            repository=models.repository,
            index=index,
        )
        opened = serve_release(config, release, backends, read_placements(None), index.close)
        traffic = Traffic(opened, Routing(release.release_id))
        journal = CatalogJournal.open(folder / "catalog.sqlite")
        app = App(config, InMemorySessions(max_events=200), journal, traffic)
        port = await app.start()
        await app.check()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Server(
                    event_service_pb2_grpc.EventServiceStub(channel),
                    recommendation_service_pb2_grpc.RecommendationServiceStub(channel),
                    catalog_service_pb2_grpc.CatalogServiceStub(channel),
                    index,
                )
        finally:
            await app.stop()
            await traffic.close()
            await journal.close()


def to_proto(row: dict[str, Any]) -> UserEvent:
    """Returns a row of the log as a shop's page would send it."""
    return UserEvent(
        event_type=EVENT_TYPES[row["event_type"]],
        event_time=Timestamp(seconds=row["event_time"]),
        product_id=row["product_id"],
        category=row["category"],
        search_query=row["search_query"],
        quantity=row["quantity"] or None,
    )


def held_out_shoppers(trained: Trained, inputs: Inputs) -> tuple[Prefixes, Predictions]:
    """Returns prefixes of held-out visits, arrivals too, and what evaluation takes for answers."""
    until = trained.dataset.info.observed_until
    judged = visit_prefixes(
        inputs.sequences,
        lengths=LEARNED_LENGTHS,
        visits_from=trained.run.info.cut_time,
        visits_until=until + 1,
        observed_until=until,
        horizons_s=trained.run.info.horizons_s,
        session_gap_s=trained.run.info.model.session_gap_s,
        cut_before_purchase=False,
    )
    answers = predict(
        ServedIntent(trained.run.network, trained.run.heads),
        trained.run.tokenizer,
        judged.behaviors(inputs.sequences),
        judged.request_times,
        silent,
    )
    return judged, answers


async def answers_to(
    server: Server, clock: Clock, visitor: str, events: list[UserEvent], asked: int
) -> tuple[dict[str, float], list[float], list[int], list[float]]:
    """Tracks the events as they happen, and returns what is predicted at the request time."""
    if events:
        clock.now = events[-1].event_time.seconds
        for start in range(0, len(events), 100):
            await server.events.TrackEvents(
                event_service_pb2.TrackEventsRequest(
                    visitor=Visitor(visitor_id=visitor), events=events[start : start + 100]
                ),
                timeout=PATIENCE_S,
            )
    clock.now = asked
    answer = await server.recommendation.PredictIntent(
        recommendation_service_pb2.PredictIntentRequest(visitor=Visitor(visitor_id=visitor)),
        timeout=PATIENCE_S,
    )
    actions = {each.action: each.probability for each in answer.next_actions}
    purchases = [each.probability for each in answer.purchases]
    further = [
        answer.visit_purchase_probability,
        answer.expected_time_to_purchase.ToTimedelta().total_seconds(),
        answer.expected_quantity,
    ]
    return actions, purchases, list(answer.degraded_reasons), further


async def test_the_server_gives_held_out_shoppers_the_very_probabilities_that_were_judged(
    trained: Trained,
    triton: Triton,
    release: Release,
    inputs: Inputs,
    clock: Clock,
    tmp_path: Path,
) -> None:
    judged, expected = held_out_shoppers(trained, inputs)
    table = trained.dataset.events().collect()
    actions = trained.run.info.actions
    farthest: list[float] = []
    seen: set[str] = set()
    async with serving(release, triton, tmp_path) as server:
        for n, (shopper, end) in enumerate(zip(judged.shoppers, judged.ends, strict=True)):
            first = int(inputs.sequences.offsets[shopper])
            rows = table.slice(first, int(end) - first).to_dicts()
            asked = int(judged.request_times[n])
            got, purchases, degraded, further = await answers_to(
                server, clock, f"visitor-{n}", [to_proto(row) for row in rows], asked
            )
            assert degraded == []
            wanted = dict(zip(actions, expected.next_actions[n].tolist(), strict=True))
            distances = [abs(got[action] - wanted[action]) for action in actions]
            distances += np.abs(np.array(purchases) - expected.purchases[n]).tolist()
            wanted_further = np.array([column[n, 0] for column in optional(expected)])
            apart = np.abs(np.array(further) - wanted_further) / np.maximum(1.0, wanted_further)
            distances += apart.tolist()
            farthest.append(max(distances))
            seen |= {kind for row in rows for kind in kinds_of(trained, row)}
            if len(rows) > MAX_EVENTS:
                seen.add("more than the model reads")
    assert len(farthest) == len(judged) > 100
    assert max(farthest) <= TOLERANCE
    assert seen >= {SEARCH, VIEW_CATEGORY, "unseen product", "more than the model reads"}


def kinds_of(trained: Trained, row: dict[str, Any]) -> Iterator[str]:
    """Yields what is special about an event, so that the test can tell it saw everything."""
    yield row["event_type"]
    if trained.run.tokenizer.products.lookup(row["product_id"]) == UNKNOWN:
        yield "unseen product"


async def test_the_server_answers_a_cold_start_as_the_trainer_does(
    trained: Trained, triton: Triton, release: Release, clock: Clock, tmp_path: Path
) -> None:
    asked = trained.dataset.info.observed_until
    served = ServedIntent(trained.run.network, trained.run.heads)
    times = np.array([asked])
    expected = predict(served, trained.run.tokenizer, [EMPTY_BEHAVIOR], times, silent)
    async with serving(release, triton, tmp_path) as server:
        got, purchases, _, further = await answers_to(server, clock, "nobody", [], asked)
    assert [got[each] for each in trained.run.info.actions] == pytest.approx(
        expected.next_actions[0].tolist(), abs=TOLERANCE
    )
    assert purchases == pytest.approx(expected.purchases[0].tolist(), abs=TOLERANCE)
    wanted = [float(column[0, 0]) for column in optional(expected)]
    assert further == pytest.approx(wanted, rel=TOLERANCE)


async def test_a_new_and_a_changed_product_are_embedded_as_the_trainer_would(
    trained: Trained, triton: Triton, release: Release, tmp_path: Path
) -> None:
    known = next(each for each in trained.dataset.products() if each.price is not None)
    changed = replace(known, title="Something else", price=Decimal("3.50"))
    new = Product(
        "brand-new", "Folding garden chair", "Oak.", "Nobody", known.categories, Decimal("49.90"),
        known.currency,
    )  # fmt: skip
    nameless = Product("nameless")
    products = [changed, new, nameless]
    async with serving(release, triton, tmp_path) as server:
        await server.catalog.BatchUpdateProducts(
            catalog_service_pb2.BatchUpdateProductsRequest(
                products=[convert.product_to_proto(each, PRODUCT_VIEW_FULL) for each in products]
            ),
            timeout=PATIENCE_S,
        )
        ids = [each.product_id for each in products]
        held = await server.index.get(ids, timeout_s=PATIENCE_S)
    tokenizer = trained.run.tokenizer
    texts = TextEncoder.open(trained.run.folder).encode(map(product_text, products))
    content = tokenizer.encode_content(products, texts)
    tokens = np.stack(
        [tokenizer.encode_product(key, row) for key, row in zip(ids, content, strict=True)]
    )
    with torch.no_grad():
        expected = trained.run.network.products(torch.tensor(tokens), torch.tensor(texts)).numpy()
    for row, product in enumerate(products):
        assert np.array_equal(held[product.product_id].content, content[row])
        assert close(held[product.product_id].embedding, expected[row])


async def test_the_collection_holds_every_product_as_the_trainer_embeds_it(
    trained: Trained, triton: Triton, release: Release, inputs: Inputs, tmp_path: Path
) -> None:
    index = EdgeProductIndex.open(tmp_path, release.folder, release.manifest)
    held = await index.get(inputs.product_ids, timeout_s=PATIENCE_S)
    await index.close()
    assert len(held) == trained.dataset.info.n_products
    tokens = np.stack(
        [
            trained.run.tokenizer.encode_product(key, row)
            for key, row in zip(inputs.product_ids, inputs.content, strict=True)
        ]
    )
    async with models_of(release, triton) as models:
        embedded = await models.encoder.encode_products(
            tokens, inputs.text_embeddings, timeout_s=PATIENCE_S
        )
    for row, product_id in enumerate(inputs.product_ids):
        assert close(held[product_id].embedding, embedded[row])


def test_some_products_came_after_training(trained: Trained) -> None:
    ids = trained.dataset.products()
    unknown = [p for p in ids if trained.run.tokenizer.products.lookup(p.product_id) == UNKNOWN]
    late = trained.dataset.events().filter(pl.col("event_time") >= trained.run.info.cut_time)
    assert set(late.collect()["product_id"]) & {each.product_id for each in unknown}
