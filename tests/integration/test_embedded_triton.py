"""The launcher and the Python backend named `onnxruntime`, against a real tritonserver."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from support.triton import LAUNCHER, ROOT, Ready, TritonDidNotStartError, triton_server

TABLE = np.array([[1, 2], [3, 4], [5, 6]], np.float32)

DATATYPES = {"ids": "INT32", "times": "INT64", "mask": "BOOL", "scale": "FP16", "row": "INT64"}

CONFIG = """
backend: "onnxruntime"
max_batch_size: 16
input [
  { name: "ids" data_type: TYPE_INT32 dims: [ -1 ] RAGGED },
  { name: "times" data_type: TYPE_INT64 dims: [ -1 ] RAGGED },
  { name: "mask" data_type: TYPE_BOOL dims: [ -1 ] RAGGED },
  { name: "scale" data_type: TYPE_FP16 dims: [ 1 ] },
  { name: "row" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [
  { name: "total" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "half" data_type: TYPE_FP16 dims: [ 1 ] },
  { name: "embedding" data_type: TYPE_FP32 dims: [ 2 ] }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { max_queue_delay_microseconds: 100000 }
parameters [
  { key: "fingerprint" value: { string_value: "abc123" } },
  { key: "intra_op_thread_count" value: { string_value: "1" } },
  { key: "inter_op_thread_count" value: { string_value: "1" } }
]
"""


def tiny_model() -> onnx.ModelProto:
    """total = scale * (sum of ids where mask, plus sum of times); embedding = TABLE[row]."""
    value = helper.make_tensor_value_info
    inputs = [
        value("ids", TensorProto.INT32, ["B", "T"]),
        value("times", TensorProto.INT64, ["B", "T"]),
        value("mask", TensorProto.BOOL, ["B", "T"]),
        value("scale", TensorProto.FLOAT16, ["B", 1]),
        value("row", TensorProto.INT64, ["B", 1]),
    ]
    outputs = [
        value("total", TensorProto.FLOAT, ["B", 1]),
        value("half", TensorProto.FLOAT16, ["B", 1]),
        value("embedding", TensorProto.FLOAT, ["B", 2]),
    ]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("table", TensorProto.FLOAT, TABLE.shape, TABLE.ravel()),
    ]
    nodes = [
        helper.make_node("Cast", ["ids"], ["ids_f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["times"], ["times_f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["mask"], ["mask_f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["scale"], ["scale_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ids_f", "mask_f"], ["masked"]),
        helper.make_node("Add", ["masked", "times_f"], ["sums"]),
        helper.make_node("ReduceSum", ["sums", "last"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "scale_f"], ["total"]),
        helper.make_node("Cast", ["total"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Squeeze", ["row", "last"], ["row_1d"]),
        helper.make_node("Gather", ["table", "row_1d"], ["embedding"]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write_model(repository: Path, name: str, config: str = CONFIG, ragged: str = "") -> None:
    (repository / name / "1").mkdir(parents=True)
    onnx.save(tiny_model(), repository / name / "1" / "model.onnx")
    (repository / name / "config.pbtxt").write_text(config.replace("RAGGED", ragged))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model_repository")
    write_model(folder, "tiny")
    write_model(folder, "ragged", ragged="allow_ragged_batch: true")
    return folder


@pytest.fixture(scope="session")
def triton(repository: Path) -> Iterator[Ready]:
    with triton_server(repository, ["tiny", "ragged"]) as ready:
        yield ready


@pytest.fixture(scope="session")
def stub(triton: Ready) -> Iterator[Any]:
    with grpc.insecure_channel(triton["grpc"]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def key(triton: Ready) -> tuple[tuple[str, str]]:
    return ((triton["model_control_header"], triton["model_control_key"]),)


def infer_request(model: str, **arrays: np.ndarray[Any, Any]) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model)
    for name, array in arrays.items():
        message.inputs.add(name=name, datatype=DATATYPES[name], shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    return message


def request(model: str, length: int, seed: int, row: int = 1) -> tuple[pb.ModelInferRequest, float]:
    """A request of one visitor with `length` events, and the total it should come back with."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, 9, (1, length), np.int32)
    times = random.integers(0, 9, (1, length))
    mask = random.integers(0, 2, (1, length)).astype(bool)
    scale, rows = np.full((1, 1), 0.5, np.float16), np.full((1, 1), row)
    message = infer_request(model, ids=ids, times=times, mask=mask, scale=scale, row=rows)
    return message, float((ids * mask + times).sum() * 0.5)


def outputs(response: pb.ModelInferResponse) -> dict[str, np.ndarray[Any, Any]]:
    dtypes = {"FP32": np.float32, "FP16": np.float16}
    return {
        tensor.name: np.frombuffer(raw, dtypes[tensor.datatype]).reshape(tensor.shape)
        for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def batches(stub: Any, model: str) -> tuple[int, int]:
    """How many inferences this model has answered, and in how many batches."""
    (stats,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name=model)).model_stats
    return stats.inference_count, stats.execution_count


def test_parameters_of_the_config_come_back(stub: Any) -> None:
    config = stub.ModelConfig(pb.ModelConfigRequest(name="tiny")).config
    assert config.backend == "onnxruntime"
    assert config.parameters["fingerprint"].string_value == "abc123"


@pytest.mark.parametrize("model", ["tiny", "ragged"])
def test_concurrent_requests_of_several_lengths_share_batches_and_answer_right(
    stub: Any, model: str
) -> None:
    before = batches(stub, model)
    sent = [request(model, 1 + seed // 16, seed, row=seed % 3) for seed in range(48)]
    answers = [stub.ModelInfer.future(message) for message, _ in sent]
    for seed, (answer, (_, total)) in enumerate(zip(answers, sent, strict=True)):
        out = outputs(answer.result())
        assert out["total"].tolist() == [[total]]
        assert out["half"].tolist() == [[total]]
        assert out["embedding"].tolist() == [TABLE[seed % 3].tolist()]
    # Triton counts a batch after it has answered it.
    eventually(lambda: batches(stub, model)[0] - before[0] == 48)
    assert batches(stub, model)[1] - before[1] < 48


def test_a_client_batch_is_answered_row_by_row(stub: Any) -> None:
    message = infer_request(
        "tiny",
        ids=np.array([[1, 2], [3, 4]], np.int32),
        times=np.zeros((2, 2), np.int64),
        mask=np.ones((2, 2), bool),
        scale=np.ones((2, 1), np.float16),
        row=np.array([[0], [2]]),
    )
    out = outputs(stub.ModelInfer(message))
    assert out["total"].tolist() == [[3], [7]]
    assert out["embedding"].tolist() == TABLE[[0, 2]].tolist()


def test_only_the_requested_outputs_are_returned(stub: Any) -> None:
    message, _ = request("tiny", 3, seed=0)
    message.outputs.add(name="embedding")
    assert list(outputs(stub.ModelInfer(message))) == ["embedding"]


def test_a_bad_request_fails_alone_and_says_why(stub: Any) -> None:
    sent = [request("ragged", 2, seed, row=99 if seed == 5 else 0) for seed in range(12)]
    answers = [stub.ModelInfer.future(message) for message, _ in sent]
    errors = [answer.exception() for answer in answers]
    assert [seed for seed, error in enumerate(errors) if error] == [5]
    assert errors[5].code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot run on these inputs" in errors[5].details()
    assert "out of data bounds" in errors[5].details()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("TYPE_BOOL", "TYPE_INT32"), "input 'mask' is TYPE_INT32, but in the ONNX file"),
        (('"total"', '"sum_total"'), "config.pbtxt names outputs"),
        (("dims: [ 2 ]", "dims: [ 7 ]"), "output 'embedding' has shape"),
        (('string_value: "1"', 'string_value: "one"'), "intra_op_thread_count is 'one'"),
    ],
)
def test_a_config_at_odds_with_the_onnx_file_is_refused_with_the_reason_and_the_rest_goes_on(
    stub: Any, triton: Ready, key: Any, repository: Path, change: tuple[str, str], reason: str
) -> None:
    write_model(repository, "odd", CONFIG.replace(*change))
    with pytest.raises(grpc.RpcError, match="odd") as caught:
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="odd"), metadata=key)
    shutil.rmtree(repository / "odd")
    assert reason in str(caught.value)
    assert http_status(triton, "GET", "/v2/health/ready") == 200


def test_a_model_that_does_not_load_stops_the_start_with_tritons_reason(tmp_path: Path) -> None:
    write_model(tmp_path, "broken")
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"not a model")
    with (
        pytest.raises(TritonDidNotStartError, match=r"failed to load 'broken'.*Protobuf parsing"),
        triton_server(tmp_path, ["broken"]),
    ):
        pass


def test_an_operator_with_the_key_unloads_and_loads_models(
    stub: Any, key: Any, repository: Path
) -> None:
    write_model(repository, "next_release")
    load = pb.RepositoryModelLoadRequest(model_name="next_release")
    stub.RepositoryModelLoad(load, metadata=key)
    message, total = request("next_release", 3, seed=1)
    assert outputs(stub.ModelInfer(message))["total"].tolist() == [[total]]

    unload = pb.RepositoryModelUnloadRequest(model_name="next_release")
    stub.RepositoryModelUnload(unload, metadata=key)
    ready = pb.ModelReadyRequest(name="next_release")
    eventually(lambda: not stub.ModelReady(ready).ready)

    stub.RepositoryModelLoad(load, metadata=key)
    assert outputs(stub.ModelInfer(message))["total"].tolist() == [[total]]


def test_model_control_without_the_key_is_refused_and_reading_is_not(
    stub: Any, triton: Ready
) -> None:
    unload = pb.RepositoryModelUnloadRequest(model_name="tiny")
    wrong = ((triton["model_control_header"], "not the key"),)
    for metadata in (None, wrong):
        with pytest.raises(grpc.RpcError, match="restricted"):
            stub.RepositoryModelUnload(unload, metadata=metadata)
    assert http_status(triton, "POST", "/v2/repository/models/tiny/unload") == 403
    assert stub.ModelReady(pb.ModelReadyRequest(name="tiny")).ready
    assert http_status(triton, "GET", "/v2/health/ready") == 200
    assert http_status(triton, "GET", "/v2/models/tiny/config") == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_launcher_ends(repository: Path, number: signal.Signals) -> None:
    with triton_server(repository, ["tiny"]) as ready:
        # tritonserver and the stub of its one model instance.
        assert len(processes_of_group(ready["triton_pid"])) == 2
        assert shared_memory_of(ready)
        os.kill(ready["pid"], number)
        eventually(lambda: not processes_of_group(ready["triton_pid"]))
        eventually(lambda: not shared_memory_of(ready))


def test_nothing_is_left_when_tritonserver_itself_is_killed(repository: Path) -> None:
    with triton_server(repository, ["tiny"]) as ready:
        (stub_process,) = processes_of_group(ready["triton_pid"]) - {ready["triton_pid"]}
        # Stopped, the stub cannot notice that its server is gone and end by itself.
        os.kill(stub_process, signal.SIGSTOP)
        os.kill(ready["triton_pid"], signal.SIGKILL)
        eventually(lambda: not processes_of_group(ready["triton_pid"]))
        eventually(lambda: not shared_memory_of(ready))


def test_the_launcher_ends_with_its_parent_when_asked_to(tmp_path: Path, repository: Path) -> None:
    launcher = [*LAUNCHER, "serve", f"--model-repository={repository}"]
    options = [f"--ready-file={tmp_path / 'ready'}", "--exit-with-parent"]
    start = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", start, *launcher, *options], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as parent:
        eventually((tmp_path / "ready").exists)
        ready = json.loads((tmp_path / "ready").read_text())
        parent.kill()
    eventually(lambda: not processes_of_group(ready["triton_pid"]))
    eventually(lambda: not (tmp_path / "ready").exists())


def test_a_port_in_use_is_named_with_its_option(triton: Ready, repository: Path) -> None:
    port = triton["grpc"].rpartition(":")[2]
    done = launch("serve", f"--model-repository={repository}", f"--grpc-port={port}")
    assert done.returncode == 1
    assert f"--grpc-port: cannot listen on 127.0.0.1:{port}" in done.stderr


def test_serve_before_setup_names_the_command(tmp_path: Path, repository: Path) -> None:
    done = launch("serve", f"--model-repository={repository}", f"--home={tmp_path}")
    assert done.returncode == 1
    assert f"-m deploy.triton setup --home {tmp_path}" in done.stderr


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the launcher to its end, from another folder than the root."""
    return subprocess.run(
        [*LAUNCHER, *arguments],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def http_status(triton: Ready, method: str, path: str) -> int:
    with contextlib.closing(http.client.HTTPConnection(triton["http"], timeout=10)) as connection:
        connection.request(method, path, body="{}" if method == "POST" else None)
        return connection.getresponse().status


def processes_of_group(group: int) -> set[int]:
    """The pids in process group `group` that still run, so without zombies."""
    pids = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state not in "ZX":
                pids.add(int(stat.parent.name))
    return pids


def shared_memory_of(ready: Ready) -> list[Path]:
    return list(Path("/dev/shm").glob(f"shopintent_triton_{ready['pid']}_*"))


def eventually(condition: Any, timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
