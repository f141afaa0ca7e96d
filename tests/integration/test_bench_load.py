"""h2load against a real gRPC server and a real HTTP/1.1 server."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest

from deploy.bench.load import Load, LoadError, Measured, Target, grpc_target, json_target, offer

pytestmark = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="needs h2load (Debian package nghttp2-client)"
)
ANSWER = b"a" * 100
BODIES = [f"visitor-{number:03}".encode() for number in range(100)]
FEW = Load(in_flight=2, duration_s=0.5, warm_up_s=0.2)


class Echo:
    """A gRPC service that counts the messages it is sent."""

    def __init__(self) -> None:
        self.seen: Counter[bytes] = Counter()
        self.n_cancelled = 0

    async def answer(self, message: bytes, context: Any) -> bytes:
        self.seen[message] += 1
        try:
            await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.n_cancelled += 1
            raise
        return ANSWER

    async def refuse(self, message: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


async def offered(echo: Echo, method: str, load: Load, *, gently: bool = False) -> Measured:
    methods: dict[str, Any] = {
        "Answer": grpc.unary_unary_rpc_method_handler(echo.answer),
        "Refuse": grpc.unary_unary_rpc_method_handler(echo.refuse),
    }
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("test.Echo", methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        target = grpc_target(
            "echo",
            f"127.0.0.1:{port}",
            f"test.Echo/{method}",
            BODIES,
            answer=ANSWER,
            never_cut_short=gently,
        )
        return await asyncio.to_thread(offer, target, load)
    finally:
        await server.stop(None)


async def test_grpc_answers_are_counted_and_timed() -> None:
    measured = await offered(Echo(), "Answer", FEW)
    assert measured.n_failed == 0
    assert measured.rps > 0
    assert 0 < measured.p50_ms <= measured.p99_ms


async def test_an_open_loop_offers_its_rate() -> None:
    measured = await offered(Echo(), "Answer", Load(rate=60, duration_s=2, warm_up_s=0.5))
    assert measured.offered_rps == pytest.approx(60, rel=0.1)


async def test_a_load_that_is_never_cut_short_cancels_no_call() -> None:
    echo = Echo()
    measured = await offered(echo, "Answer", Load(in_flight=16, duration_s=0.5), gently=True)
    assert measured.n_answers > 0
    assert echo.n_cancelled == 0
    await offered(echo, "Answer", Load(in_flight=16, duration_s=0.5))
    assert echo.n_cancelled > 0


async def test_grpc_errors_are_failures_though_http_says_200() -> None:
    measured = await offered(Echo(), "Refuse", FEW)
    assert measured.n_answers > 0
    assert measured.n_failed == measured.n_answers


async def test_many_bodies_take_turns_and_each_arrives_whole() -> None:
    echo = Echo()
    await offered(echo, "Answer", Load(in_flight=4, duration_s=1))
    assert len(echo.seen) > 20
    assert all(len(body) == len(BODIES[0]) and body.startswith(b"visitor-") for body in echo.seen)


@contextmanager
def http_target() -> Iterator[Target]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200 if body.strip() in (b'{"a":1}', b'{"a":10}') else 400)
            self.send_header("content-length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/predict"
    try:
        yield json_target("http", url, [b'{"a":1}', b'{"a":10}'], answer=ANSWER)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_json_over_http_1_is_measured_too() -> None:
    with http_target() as target:
        measured = offer(target, FEW)
    assert measured.n_answers > 0
    assert measured.n_failed == 0


def test_a_server_that_is_not_there_is_said() -> None:
    target = grpc_target("nobody", "127.0.0.1:9", "test.Echo/Answer", BODIES)
    with pytest.raises(LoadError, match=r"nobody at http://127\.0\.0\.1:9"):
        offer(target, FEW)
