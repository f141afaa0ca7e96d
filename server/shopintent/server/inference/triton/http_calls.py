"""Calls of models over Triton's HTTP service, in the binary form of its inference protocol.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
A call takes a third of the processor time of one over gRPC, and 0.3 ms less.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote

from shopintent.server.inference.triton.calls import Answer, CallFailed, InputTensor
from shopintent.server.inference.triton.http_connection import (
    ConnectionLost,
    HttpConnection,
    HttpResponse,
)

MAX_IDLE = 4
"""Connections that are kept. One is enough for all who ask the intent model, because its batches
leave one after the other."""
_PERHAPS_ONE_ROW = frozenset({400, 500})


class HttpCalls:
    """ModelCalls over kept connections to one `address`, "host:port"; none is made before a call.

    They end with the block that it is entered by, and with them what is asked on them.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._idle: list[HttpConnection] = []
        self._open: set[HttpConnection] = set()

    def heads(
        self, model_name: str, inputs: Sequence[InputTensor], outputs: Sequence[str]
    ) -> tuple[bytes, ...]:
        """Returns an HTTP request without its tensors, which are its end."""
        said = {
            "inputs": [
                {
                    "name": each.name,
                    "datatype": each.datatype,
                    "shape": each.shape,
                    "parameters": {"binary_data_size": each.n_bytes},
                }
                for each in inputs
            ],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
        }
        header = json.dumps(said, separators=(",", ":")).encode()
        n_bytes = len(header) + sum(each.n_bytes for each in inputs)
        head = (
            f"POST /v2/models/{quote(model_name, safe='')}/infer HTTP/1.1\r\n"
            f"Host: {self._address}\r\n"
            "Content-Type: application/octet-stream\r\n"
            f"Content-Length: {n_bytes}\r\n"
            f"Inference-Header-Content-Length: {len(header)}\r\n\r\n"
        )
        return (head.encode() + header, *([b""] * (len(inputs) - 1)))

    async def ask(self, request: bytes, *, timeout_s: float) -> Answer:
        """Returns the answer. Raises CallFailed."""
        try:
            return _answer(await self._respond(request, timeout_s))
        except OSError as error:
            raise CallFailed(f"HTTP at {self._address}: {error}") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for connection in list(self._open):
            connection.close()

    async def _respond(self, request: bytes, timeout_s: float) -> HttpResponse:
        if self._idle:
            try:
                return await self._idle.pop().ask(request, timeout_s=timeout_s)
            except ConnectionLost as error:
                if error.answering:
                    raise
                # Most likely it ended between two calls; and asking twice changes nothing.
        return await (await self._connect(timeout_s)).ask(request, timeout_s=timeout_s)

    async def _connect(self, timeout_s: float) -> HttpConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(self._free, self._forget), self._host, self._port
                )
        except TimeoutError as error:
            why = f"no connection within {timeout_s:.3f} s"
            raise ConnectionLost(why, answering=False) from error
        self._open.add(connection)
        return connection

    def _free(self, connection: HttpConnection) -> None:
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _forget(self, connection: HttpConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _answer(response: HttpResponse) -> Answer:
    try:
        if response.status != 200:
            why = f"HTTP {response.status}: {_error(response)}"
            raise CallFailed(why, perhaps_one_row=response.status in _PERHAPS_ONE_ROW)
        body = memoryview(response.body)
        position = response.header_length
        said = json.loads(bytes(body[:position]))
        outputs = {}
        for output in said["outputs"]:
            n_bytes = output.get("parameters", {}).get("binary_data_size", 0)
            if output["datatype"] == "FP32":
                outputs[str(output["name"])] = body[position : position + n_bytes]
            position += n_bytes
        return Answer(outputs, str(said["model_version"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CallFailed(f"HTTP 200 with an answer that cannot be read: {error!r}") from error


def _error(response: HttpResponse) -> Any:
    try:
        return json.loads(response.body)["error"]
    except (ValueError, KeyError, TypeError):
        return response.body[:200].decode(errors="replace")
