"""A Triton backend named `onnxruntime`, in Python: it stands in for NVIDIA's native one on the CPU.

A model repository whose config.pbtxt says `backend: "onnxruntime"` runs unmodified on either.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

Array = npt.NDArray[Any]

ONNX_TYPES = {
    "TYPE_BOOL": "tensor(bool)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
}


class TritonPythonModel:
    """One instance of one model version; Triton calls these three methods, one at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the ONNX file; raise unless it is what config.pbtxt describes."""
        config = json.loads(args["model_config"])
        file_name = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / file_name
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path} does not exist; export the model again")
        try:
            self.session = ort.InferenceSession(
                str(path), session_options(config), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base class
            raise pb_utils.TritonModelException(f"{path} cannot be opened: {error}") from error
        batched = config["max_batch_size"] > 0
        check_tensors("input", config["input"], self.session.get_inputs(), batched)
        check_tensors("output", config["output"], self.session.get_outputs(), batched)
        self.batched = batched
        self.input_names = [tensor["name"] for tensor in config["input"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request, running those whose inputs have equal shapes as one batch."""
        inputs = [self.read_inputs(request) for request in requests]
        names = sorted({name for r in requests for name in r.requested_output_names()})
        responses: dict[int, Any] = {}
        for group in self.group_by_shape(inputs):
            for index, answer in self.run_group(inputs, group, names):
                responses[index] = response(answer, requests[index].requested_output_names())
        return [responses[index] for index in range(len(requests))]

    def finalize(self) -> None:
        """Free the session when the model is unloaded."""
        del self.session

    def read_inputs(self, request: Any) -> dict[str, Array]:
        tensors = {
            name: pb_utils.get_input_tensor_by_name(request, name) for name in self.input_names
        }
        return {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}

    def group_by_shape(self, inputs: Sequence[dict[str, Array]]) -> list[list[int]]:
        """Indices of requests that may share a batch: equal names, dtypes and unbatched shapes."""
        if not self.batched:
            return [[index] for index in range(len(inputs))]
        groups: dict[object, list[int]] = {}
        for index, arrays in enumerate(inputs):
            key = tuple((name, a.dtype.str, a.shape[1:]) for name, a in arrays.items())
            groups.setdefault(key, []).append(index)
        return list(groups.values())

    def run_group(
        self, inputs: Sequence[dict[str, Array]], group: list[int], names: list[str]
    ) -> list[tuple[int, dict[str, Array] | Exception]]:
        """Run `group` as one batch; if that fails, each alone, so that only the bad one fails."""
        members = [inputs[index] for index in group]
        try:
            return list(zip(group, self.run_batch(members, names), strict=True))
        except Exception as error:  # onnxruntime's errors share no base class
            if len(group) == 1:
                return [(group[0], error)]
            return [answer for index in group for answer in self.run_group(inputs, [index], names)]

    def run_batch(
        self, members: list[dict[str, Array]], names: list[str]
    ) -> list[dict[str, Array]]:
        if len(members) == 1:
            return [dict(zip(names, self.session.run(names, members[0]), strict=True))]
        feed = {name: np.concatenate([m[name] for m in members]) for name in members[0]}
        sizes = [len(member[self.input_names[0]]) for member in members]
        columns = [
            np.split(output, np.cumsum(sizes)[:-1]) for output in self.session.run(names, feed)
        ]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def session_options(config: dict[str, Any]) -> ort.SessionOptions:
    """Threads and execution mode from config.pbtxt's parameters, which the native backend knows."""
    parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count(parameters, "intra_op_thread_count")
    options.inter_op_num_threads = thread_count(parameters, "inter_op_thread_count")
    if parameters.get("execution_mode") == "1":
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    return options


def thread_count(parameters: dict[str, str], name: str) -> int:
    text = parameters.get(name, "0")
    if not text.isdecimal():
        raise pb_utils.TritonModelException(
            f"config.pbtxt: parameter {name} is {text!r}; give a number of threads, 0 for all cores"
        )
    return int(text)


def check_tensors(
    kind: str, configured: Sequence[dict[str, Any]], actual: Sequence[Any], batched: bool
) -> None:
    """Raise unless config.pbtxt and the ONNX file agree on every name, data type and shape."""
    by_name = {tensor.name: tensor for tensor in actual}
    names = [tensor["name"] for tensor in configured]
    missing = sorted(by_name.keys() - set(names)) if kind == "input" else []
    unknown = [name for name in names if name not in by_name]
    if missing or unknown:
        raise pb_utils.TritonModelException(
            f"config.pbtxt names {kind}s {names}, the ONNX file {list(by_name)}; make them agree"
        )
    for tensor in configured:
        name, dims = tensor["name"], [int(dim) for dim in tensor["dims"]]
        model_type, shape = by_name[name].type, list(by_name[name].shape)
        if ONNX_TYPES.get(tensor["data_type"]) != model_type:
            raise pb_utils.TritonModelException(
                f"config.pbtxt: {kind} {name!r} is {tensor['data_type']}, "
                f"but in the ONNX file it is {model_type}"
            )
        expected = [-1, *dims] if batched else dims
        if not shapes_agree(expected, shape):
            raise pb_utils.TritonModelException(
                f"config.pbtxt: {kind} {name!r} has shape {expected} "
                f"(-1 varies{', the batch first' if batched else ''}), "
                f"but in the ONNX file {shape}"
            )


def shapes_agree(configured: Sequence[int], actual: Sequence[int | str | None]) -> bool:
    """Whether every fixed size of the ONNX file is the configured one; a named size fits any."""
    return len(configured) == len(actual) and all(
        not isinstance(size, int) or size == wanted
        for wanted, size in zip(configured, actual, strict=True)
    )


def response(answer: dict[str, Array] | Exception, names: Sequence[str]) -> Any:
    if isinstance(answer, Exception):
        invalid = isinstance(answer, InvalidArgument)
        code = pb_utils.TritonError.INVALID_ARG if invalid else pb_utils.TritonError.INTERNAL
        error = pb_utils.TritonError(f"the model cannot run on these inputs: {answer}", code)
        return pb_utils.InferenceResponse(output_tensors=[], error=error)
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, np.ascontiguousarray(answer[name])) for name in names]
    )
