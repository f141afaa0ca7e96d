"""The Triton adapter against a server that speaks Triton's protocol in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from shopintent.artifacts.signature import (
    MAX_BATCH,
    OPTIONAL_ANSWERS,
    Tensor,
    sequence_length,
)
from shopintent.behavior import Behavior
from shopintent.server.errors import ModelUnavailable
from shopintent.server.inference import Prediction
from shopintent.server.inference.triton import (
    MAX_TEXTS,
    GrpcCalls,
    HttpCalls,
    ModelCalls,
    TritonBehaviorModel,
    TritonContentEncoder,
    TritonRepository,
)
from support.triton_http import serving_http

TYPES = {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32}


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers every output with ones, `sizes` wide; the tests change how."""

    def __init__(self) -> None:
        self.sizes = {
            "next_action_probabilities": 3,
            "purchase_probabilities": 2,
            "behavior_embedding": 4,
            **dict.fromkeys(OPTIONAL_ANSWERS, 1),
            "text_embedding": 5,
            "product_embedding": 4,
        }
        self.requests: list[dict[str, NDArray[Any]]] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.delay_s = 0.0
        self.fill = 1.0
        self.short_by = 0
        self.code: grpc.StatusCode | None = None
        self.ready = True
        self.refused_time: int | None = None
        self.spoiled_time: int | None = None

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        contents = zip(request.inputs, request.raw_input_contents, strict=True)
        arrays = {
            each.name: np.frombuffer(raw, TYPES[each.datatype]).reshape(tuple(each.shape))
            for each, raw in contents
        }
        self.requests.append(arrays)
        self.asked.set()
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.code is not None:
            await context.abort(self.code, "refused")
        batch = len(next(iter(arrays.values())))
        times = arrays.get("request_time", np.zeros((batch, 1)))[:, 0]
        if self.refused_time in times:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a row is bad")
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="7")
        # Not in the order asked for: the order of the answer is what counts.
        for output in reversed(request.outputs):
            shape = (batch, self.sizes[output.name])
            answer.outputs.add(name=output.name, datatype="FP32", shape=shape)
            rows = np.full(shape, self.fill, np.float32)
            rows[times == self.spoiled_time] = np.nan
            raw = rows.tobytes()
            answer.raw_output_contents.append(raw[: len(raw) - self.short_by])
        return answer

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=self.ready)

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        if request.name == "missing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        unbatched = request.name == "unbatched"
        dims = [-1, 128, 9] if unbatched else [128, 9]
        config = model_config_pb2.ModelConfig(
            name=request.name, max_batch_size=0 if unbatched else 8
        )
        config.input.add(name="events", data_type=model_config_pb2.TYPE_INT32, dims=dims)
        config.output.add(name="out", data_type=model_config_pb2.TYPE_FP32, dims=dims)
        config.parameters["behavior_fingerprint"].string_value = "abc"
        return service_pb2.ModelConfigResponse(config=config)


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton()


@pytest.fixture
async def channel(triton: FakeTriton) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


@pytest.fixture(params=["grpc", "http"])
async def calls(
    request: pytest.FixtureRequest, triton: FakeTriton, channel: grpc.aio.Channel
) -> AsyncIterator[ModelCalls]:
    if request.param == "grpc":
        yield GrpcCalls(channel)
        return
    async with serving_http(triton.ModelInfer) as address, HttpCalls(address) as calls:
        yield calls


@pytest.fixture
def model(calls: ModelCalls) -> TritonBehaviorModel:
    return make_model(calls)


def make_model(calls: ModelCalls) -> TritonBehaviorModel:
    return TritonBehaviorModel(
        calls,
        model_name="intent_r1",
        max_events=32,
        n_actions=3,
        n_horizons=2,
        embedding_size=4,
        answers=OPTIONAL_ANSWERS,
    )


@pytest.fixture
def encoder(calls: ModelCalls) -> TritonContentEncoder:
    words = Tokenizer(WordLevel({"[UNK]": 0, "red": 1, "chair": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    return TritonContentEncoder(
        calls,
        text_encoder="text_encoder_r1",
        product_encoder="product_encoder_r1",
        text_tokenizer=words,
        max_text_tokens=4,
        text_embedding_size=5,
        embedding_size=4,
    )


def behavior(n_events: int = 16) -> Behavior:
    tokens = np.arange(1, 1 + n_events * 9, dtype=np.int32).reshape(n_events, 9)
    return Behavior(tokens, np.arange(1, 1 + n_events, dtype=np.int64))


async def test_a_behavior_arrives_as_the_signature_says(
    triton: FakeTriton, model: TritonBehaviorModel
) -> None:
    prediction = await model.predict(behavior(), request_time=1_700_000_000, timeout_s=5)
    sent = triton.requests[0]
    assert (sent["events"] == behavior().tokens[None]).all()
    assert (sent["event_times"] == behavior().event_times[None]).all()
    assert sent["request_time"].tolist() == [[1_700_000_000]]
    assert {name: array.dtype.name for name, array in sent.items()} == {
        "events": "int32",
        "event_times": "int64",
        "request_time": "int64",
    }
    assert prediction.next_actions.shape == (3,)
    assert prediction.purchases.shape == (2,)
    assert prediction.behavior_embedding.shape == (4,)
    assert prediction.optional_answers == dict.fromkeys(OPTIONAL_ANSWERS, 1.0)
    assert prediction.model_version == "7"


@pytest.mark.parametrize("lengths", [[0], [3], [8], [9], [32], [5, 0, 17, 8], [1] * MAX_BATCH])
async def test_behaviors_asked_for_at_once_are_one_request_padded_to_the_longest(
    triton: FakeTriton, model: TritonBehaviorModel, lengths: list[int]
) -> None:
    asked = [
        model.predict(behavior(n_events), request_time=row, timeout_s=5)
        for row, n_events in enumerate(lengths)
    ]
    assert len(await asyncio.gather(*asked)) == len(lengths)
    (sent,) = triton.requests
    length = sequence_length(max(lengths), 32)
    assert sent["events"].shape == (len(lengths), length, 9)
    assert sent["request_time"][:, 0].tolist() == list(range(len(lengths)))
    for row, n_events in enumerate(lengths):
        assert (sent["events"][row, :n_events] == behavior(n_events).tokens).all()
        assert (sent["event_times"][row, :n_events] == behavior(n_events).event_times).all()
        assert not sent["events"][row, n_events:].any()
        assert not sent["event_times"][row, n_events:].any()


async def test_more_than_a_batch_holds_go_in_several(
    triton: FakeTriton, model: TritonBehaviorModel
) -> None:
    asked = [model.predict(behavior(), request_time=0, timeout_s=5) for _ in range(MAX_BATCH + 3)]
    await asyncio.gather(*asked)
    assert sorted(len(each["events"]) for each in triton.requests) == [3, MAX_BATCH]


@pytest.mark.parametrize("how", ["refused_time", "spoiled_time"])
async def test_a_behavior_that_the_model_cannot_read_fails_alone(
    triton: FakeTriton, model: TritonBehaviorModel, how: str
) -> None:
    setattr(triton, how, 2)
    asked = [model.predict(behavior(), request_time=row, timeout_s=5) for row in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    failed = [row for row, answer in enumerate(answers) if isinstance(answer, ModelUnavailable)]
    assert failed == [2]
    assert sum(isinstance(answer, Prediction) for answer in answers) == 4


async def test_a_slow_model_is_unavailable_and_its_work_is_cancelled(
    triton: FakeTriton, model: TritonBehaviorModel
) -> None:
    triton.delay_s = 3600
    with pytest.raises(ModelUnavailable, match=r"not within|DEADLINE_EXCEEDED"):
        await model.predict(behavior(), request_time=0, timeout_s=0.1)
    await asyncio.wait_for(triton.cancelled.wait(), timeout=10)


async def test_a_prediction_that_is_cancelled_is_not_cancelled_in_triton(
    triton: FakeTriton, model: TritonBehaviorModel
) -> None:
    triton.delay_s = 0.2
    task = asyncio.create_task(model.predict(behavior(), request_time=0, timeout_s=3600))
    await triton.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.4)
    assert not triton.cancelled.is_set()


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
async def test_every_error_of_triton_is_model_unavailable(
    triton: FakeTriton, model: TritonBehaviorModel, code: grpc.StatusCode
) -> None:
    triton.code = code
    with pytest.raises(ModelUnavailable, match="intent_r1") as caught:
        await model.predict(behavior(), request_time=0, timeout_s=5)
    assert caught.value.metadata == {"modelName": "intent_r1"}


@pytest.mark.parametrize(
    ("fill", "short_by", "extra"),
    [(np.nan, 0, 0), (np.inf, 0, 0), (1.0, 4, 0), (1.0, 3, 0), (1.0, 0, 1), (1.0, 16, 0)],
)
async def test_an_answer_that_is_not_what_was_promised_is_refused(
    triton: FakeTriton, model: TritonBehaviorModel, fill: float, short_by: int, extra: int
) -> None:
    triton.fill, triton.short_by = fill, short_by
    triton.sizes["behavior_embedding"] += extra
    with pytest.raises(ModelUnavailable, match="finite FP32"):
        await model.predict(behavior(), request_time=0, timeout_s=5)


async def test_a_triton_that_is_not_there_is_unavailable() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        model = make_model(GrpcCalls(channel))
        with pytest.raises(ModelUnavailable, match="UNAVAILABLE"):
            await model.predict(behavior(), request_time=0, timeout_s=5)
        with pytest.raises(ModelUnavailable, match="UNAVAILABLE"):
            await TritonRepository(channel).describe("intent_r1", timeout_s=5)


async def test_empty_texts_are_zeros_without_a_call(
    triton: FakeTriton, encoder: TritonContentEncoder
) -> None:
    embeddings = await encoder.encode_texts(["", ""], timeout_s=5)
    assert embeddings.tolist() == np.zeros((2, 5)).tolist()
    assert triton.requests == []


async def test_texts_are_cut_padded_and_masked(
    triton: FakeTriton, encoder: TritonContentEncoder
) -> None:
    texts = ["red chair", "", "red red red red red red red"]
    embeddings = await encoder.encode_texts(texts, timeout_s=5)
    sent = triton.requests[0]
    assert sent["input_ids"].tolist() == [[1, 2, 0, 0], [1, 1, 1, 1]]
    assert sent["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert embeddings.sum(axis=1).tolist() == [5, 0, 5]


async def test_many_texts_and_products_go_in_batches(
    triton: FakeTriton, encoder: TritonContentEncoder
) -> None:
    texts = ["red"] * (2 * MAX_TEXTS + 1)
    embeddings = await encoder.encode_texts(texts, timeout_s=5)
    assert [len(each["input_ids"]) for each in triton.requests] == [MAX_TEXTS, MAX_TEXTS, 1]
    assert embeddings.all()
    tokens = np.ones((300, 7), dtype=np.int32)
    products = await encoder.encode_products(
        tokens, np.ones((300, 5), dtype=np.float32), timeout_s=5
    )
    assert [len(each["product_tokens"]) for each in triton.requests[3:]] == [MAX_BATCH] * 4 + [44]
    assert products.shape == (300, 4)
    assert products.all()


async def test_the_timeout_is_for_all_batches_together(
    triton: FakeTriton, encoder: TritonContentEncoder
) -> None:
    triton.delay_s = 0.15
    with pytest.raises(ModelUnavailable, match="text_encoder_r1"):
        await encoder.encode_texts(["red"] * MAX_TEXTS * 4, timeout_s=0.3)
    assert len(triton.requests) < 4


@pytest.mark.parametrize("gives_up", ["at its deadline", "cancelled"])
async def test_a_text_that_nobody_waits_for_is_not_cancelled_in_triton(
    triton: FakeTriton, encoder: TritonContentEncoder, gives_up: str
) -> None:
    triton.delay_s = 0.3
    timeout_s = 0.1 if gives_up == "at its deadline" else 3600.0
    task = asyncio.create_task(encoder.encode_texts(["red"], timeout_s=timeout_s))
    await triton.asked.wait()
    if gives_up == "cancelled":
        task.cancel()
    with pytest.raises((ModelUnavailable, asyncio.CancelledError)):
        await task
    await asyncio.sleep(0.4)
    assert not triton.cancelled.is_set()


async def test_a_model_is_described_without_its_batch_dimension(
    channel: grpc.aio.Channel,
) -> None:
    repository = TritonRepository(channel)
    for name in ("batched", "unbatched"):
        description = await repository.describe(name, timeout_s=5)
        assert description.signature.inputs == (Tensor("events", "INT32", (128, 9)),)
        assert description.signature.outputs == (Tensor("out", "FP32", (128, 9)),)
        assert description.max_batch_size == (8 if name == "batched" else 0)
        assert description.parameters == {"behavior_fingerprint": "abc"}


async def test_a_model_that_is_not_loaded_is_unavailable(
    triton: FakeTriton, channel: grpc.aio.Channel
) -> None:
    repository = TritonRepository(channel)
    with pytest.raises(ModelUnavailable, match="missing"):
        await repository.describe("missing", timeout_s=5)
    triton.ready = False
    with pytest.raises(ModelUnavailable, match="has not loaded it"):
        await repository.describe("batched", timeout_s=5)
