"""A Triton that speaks HTTP in this process: it carries calls to whatever answers over gRPC too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

Infer = Callable[[Any, Any], Awaitable[Any]]
"""ModelInfer of a servicer."""
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INTERNAL: 500,
}


@dataclass
class Aborted(Exception):
    """What a servicer aborted with."""

    code: grpc.StatusCode
    details: str


class Context:
    """What a servicer needs of a call's context."""

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details)


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[str]:
    """Yields the address of a server that answers each connection so."""
    connections: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def serving_http(infer: Infer) -> AsyncIterator[str]:
    """Yields the address of a server that answers as `infer` does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            working = asyncio.ensure_future(infer(request, Context()))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not working.done():
                working.cancel()
                return
            try:
                writer.write(response_of(working.result()))
            except Aborted as aborted:
                body = json.dumps({"error": aborted.details}).encode()
                writer.write(http(STATUS.get(aborted.code, 503), body))

    async with listening(answer) as address:
        yield address


async def read_request(reader: asyncio.StreamReader) -> Any:
    """Returns what is asked, as a ModelInferRequest."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (x.split(":", 1) for x in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    position = int(headers["inference-header-content-length"])
    said = json.loads(body[:position])
    tensors = service_pb2.ModelInferRequest
    request = tensors(model_name=first.split("/")[3])
    for tensor in said["inputs"]:
        n_bytes = tensor["parameters"]["binary_data_size"]
        request.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        request.raw_input_contents.append(body[position : position + n_bytes])
        position += n_bytes
    assert position == len(body)
    for tensor in said["outputs"]:
        assert tensor["parameters"] == {"binary_data": True}
        request.outputs.add(name=tensor["name"])
    return request


def response_of(answer: Any) -> bytes:
    """Returns the HTTP response that says what a ModelInferResponse does."""
    said = {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "outputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {"binary_data_size": len(content)},
            }
            for tensor, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
        ],
    }
    header = json.dumps(said).encode()
    body = header + b"".join(answer.raw_output_contents)
    return http(200, body, f"Inference-Header-Content-Length: {len(header)}\r\n")


def http(status: int, body: bytes, headers: str = "") -> bytes:
    """Returns an HTTP response."""
    head = f"HTTP/1.1 {status} -\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
