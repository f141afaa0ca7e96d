"""The exported models: Triton's configuration and the ONNX files say what the signature says."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from shopintent.artifacts import layout, signature
from shopintent.artifacts.signature import Signature, Tensor
from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.trainer.export import (
    MODEL_FILE,
    MODEL_VERSION,
    ServedIntent,
    model_config,
)
from shopintent.trainer.heads import rising
from support.learning import MODEL, make_heads, make_network
from support.trained import MAX_EVENTS, RELEASE, Trained

ONNX_TYPES = {"tensor(int32)": "INT32", "tensor(int64)": "INT64", "tensor(float)": "FP32"}


def parsed(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def tensors(config: model_config_pb2.ModelConfig) -> Signature:
    def read(each: object) -> Tensor:
        dtype = model_config_pb2.DataType.Name(each.data_type).removeprefix("TYPE_")  # type: ignore[attr-defined]
        return Tensor(each.name, dtype, tuple(each.dims))  # type: ignore[attr-defined]

    return Signature(tuple(map(read, config.input)), tuple(map(read, config.output)))


@pytest.fixture(scope="module")
def signatures(trained: Trained) -> dict[str, Signature]:
    info = trained.run.info
    text, size = info.model.text_embedding_size, info.model.d_model
    return {
        layout.intent_model(RELEASE): signature.intent_signature(
            n_actions=len(info.actions),
            n_horizons=len(info.horizons_s),
            embedding_size=size,
        ),
        layout.text_encoder_model(RELEASE): signature.text_encoder_signature(
            text_embedding_size=text
        ),
        layout.product_encoder_model(RELEASE): signature.product_encoder_signature(
            text_embedding_size=text, embedding_size=size
        ),
    }


def test_the_repository_holds_exactly_the_models_of_the_release(
    trained: Trained, signatures: dict[str, Signature]
) -> None:
    repository = trained.releases.model_repository
    assert {path.name for path in repository.iterdir()} == set(signatures)
    for name in signatures:
        files = [path.relative_to(repository / name) for path in (repository / name).rglob("*.*")]
        assert sorted(map(str, files)) == ["1/model.onnx", "config.pbtxt"]


def test_every_model_is_warmed_up_with_requests_of_the_shapes_it_is_sent(
    trained: Trained, signatures: dict[str, Signature]
) -> None:
    sizes = {"TYPE_INT32": 4, "TYPE_INT64": 8, "TYPE_FP32": 4}
    for name, expected in signatures.items():
        folder = trained.releases.model_repository / name
        config = parsed((folder / "config.pbtxt").read_text())
        assert len({each.name for each in config.model_warmup}) == len(config.model_warmup) > 0
        for sample in config.model_warmup:
            assert set(sample.inputs) == {tensor.name for tensor in expected.inputs}
            for tensor in expected.inputs:
                given = sample.inputs[tensor.name]
                dtype = model_config_pb2.DataType.Name(given.data_type)
                assert dtype == f"TYPE_{tensor.dtype}"
                fits = zip(given.dims, tensor.shape, strict=True)
                assert all(size == dim or dim == signature.ANY for size, dim in fits)
                content = (folder / "warmup" / given.input_data_file).read_bytes()
                assert len(content) == sizes[dtype] * int(np.prod(given.dims))
    intent = parsed(
        (
            trained.releases.model_repository / layout.intent_model(RELEASE) / "config.pbtxt"
        ).read_text()
    )
    lengths = {tuple(each.inputs[signature.EVENT_TIMES].dims) for each in intent.model_warmup}
    assert lengths == {(8,), (MAX_EVENTS,)}


def test_every_config_parses_back_to_the_signature_and_names_the_tokenizer(
    trained: Trained, signatures: dict[str, Signature]
) -> None:
    for name, expected in signatures.items():
        text = (trained.releases.model_repository / name / "config.pbtxt").read_text()
        config = parsed(text)
        assert config.name == name
        assert config.backend == "onnxruntime"
        assert config.max_batch_size == signature.MAX_BATCH
        assert tensors(config) == expected
        fingerprint = config.parameters[signature.FINGERPRINT_PARAMETER].string_value
        assert fingerprint == trained.run.tokenizer.fingerprint


def test_every_graph_reads_and_writes_its_signature(
    trained: Trained, signatures: dict[str, Signature]
) -> None:
    for name, expected in signatures.items():
        path = trained.releases.model_repository / name / str(MODEL_VERSION) / MODEL_FILE
        session = onnxruntime.InferenceSession(str(path))
        for tensor, found in zip(
            (*expected.inputs, *expected.outputs),
            (*session.get_inputs(), *session.get_outputs()),
            strict=True,
        ):
            assert found.name == tensor.name
            assert ONNX_TYPES[found.type] == tensor.dtype
            assert isinstance(found.shape[0], str), "the batch may have any size"
            for size, dim in zip(found.shape[1:], tensor.shape, strict=True):
                assert isinstance(size, str) if dim == signature.ANY else size == dim


@pytest.mark.parametrize("n_events", [0, 1, 2, 7, 8, MAX_EVENTS])
def test_answers_do_not_depend_on_padding(trained: Trained, n_events: int) -> None:
    name = layout.intent_model(RELEASE)
    path = trained.releases.model_repository / name / str(MODEL_VERSION) / MODEL_FILE
    session = onnxruntime.InferenceSession(str(path))
    rng = np.random.default_rng(n_events)
    sizes = [*trained.run.tokenizer.sizes.values(), 5]
    tokens = np.stack([rng.integers(1, size, (3, n_events)) for size in sizes], -1)
    times = 1_700_000_000 + rng.choice([0, 60, 1801, 90_000], (3, n_events)).cumsum(1)

    def ask(length: int) -> list[NDArray[np.float32]]:
        behind = (0, length - n_events)
        given = {
            signature.EVENTS: np.pad(tokens, ((0, 0), behind, (0, 0))).astype(np.int32),
            signature.EVENT_TIMES: np.pad(times, ((0, 0), behind)),
            signature.REQUEST_TIME: np.full((3, 1), 1_800_000_000),
        }
        return list(session.run(None, given))

    shortest = ask(max(1, n_events))
    for length in (n_events + 1, n_events + 2, 8, 16, 64):
        if n_events <= length <= MAX_EVENTS:
            for expected, found in zip(shortest, ask(length), strict=True):
                assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("n_events", "max_events", "length"),
    [
        (0, 128, 8), (8, 128, 8), (9, 128, 16), (17, 128, 24), (25, 128, 32), (32, 128, 32),
        (33, 128, 48), (49, 128, 64), (96, 128, 96), (97, 128, 128), (128, 128, 128),
        (200, 128, 128), (49, 50, 50), (3, 4, 4), (300, 1000, 384), (400, 1000, 512),
    ],
)  # fmt: skip
def test_a_window_is_sent_in_the_shortest_length_that_holds_it(
    n_events: int, max_events: int, length: int
) -> None:
    assert signature.sequence_length(n_events, max_events) == length


def test_a_config_bounds_the_queue_and_what_waits_in_it() -> None:
    model = Signature((Tensor("a", "INT64", (signature.ANY,)),), (Tensor("b", "FP32", (3,)),))
    config = parsed(model_config("m", model, {"key": "value"}, 0.8))
    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size > 0
    assert policy.default_timeout_microseconds == 800_000
    assert policy.allow_timeout_override
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert tensors(config) == model
    assert config.parameters["key"].string_value == "value"


def test_a_longer_horizon_is_at_least_as_likely() -> None:
    given = torch.tensor([[0.2, 0.1, 0.3], [0.1, 0.2, 0.3], [0.5, 0.1, 0.2]])
    expected = [[0.2, 0.2, 0.3], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5]]
    assert np.array_equal(rising(given).numpy(), np.array(expected, np.float32))


def test_the_served_network_answers_a_request_that_sees_all_events() -> None:
    network, heads = make_network(), make_heads()
    events = torch.zeros(2, MODEL.max_events, len(EVENT_FIELDS), dtype=torch.int32)
    events[0, :5] = 2
    events[1, :1] = 3
    times = torch.where(events[..., 0] > 0, 1_700_000_000, 0)
    asked = torch.full((2, 1), 1_700_000_100)
    with torch.no_grad():
        served = ServedIntent(network, heads)(events, times, asked)
        state, embedding = network.observe(events.long(), times, torch.tensor([[5], [1]]), asked)
        features = heads.features(events.long(), times, asked)
        answers = heads(torch.cat([state.squeeze(1), features], dim=1))
    assert torch.allclose(served.next_actions, answers.next_actions)
    assert torch.allclose(served.purchases, answers.purchases)
    assert torch.allclose(served.visit_purchase, answers.visit_purchase)
    assert torch.allclose(served.time_to_purchase_s, answers.time_to_purchase_s)
    assert torch.allclose(served.quantity, answers.quantity)
    assert torch.allclose(served.behavior_embedding, embedding.squeeze(1))
