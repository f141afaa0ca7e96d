"""Calls over HTTP: connections are kept, and what goes wrong with one is told and over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tritonclient.grpc import service_pb2

from shopintent.server.inference.triton import HttpCalls
from shopintent.server.inference.triton.calls import Answer, CallFailed, InputTensor
from support.triton_http import http, listening, read_request, response_of

ANSWERED = Answer({"out": b"abcd"}, "3")
ANSWER = response_of(
    service_pb2.ModelInferResponse(
        model_version="3",
        outputs=[{"name": "out", "datatype": "FP32", "shape": [1, 1]}],
        raw_output_contents=[b"abcd"],
    )
)


class FakeServer:
    """Answers every request rightly, or with the next of `answers`."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.ends = False
        """Whether it ends the connection after the next answer."""
        self.n_connections = 0
        self.n_requests = 0
        self.held = asyncio.Event()
        self.held.set()
        self.asked = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        while True:
            await read_request(reader)
            self.n_requests += 1
            self.asked.set()
            await self.held.wait()
            answer = self.answers.pop(0) if self.answers else ANSWER
            writer.write(answer)
            if self.ends:
                self.ends = False
                return


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@asynccontextmanager
async def calls_of(server: FakeServer) -> AsyncIterator[HttpCalls]:
    async with listening(server.answer) as address, HttpCalls(address) as calls:
        yield calls


async def ask(calls: HttpCalls, timeout_s: float = 5.0) -> Answer:
    (head,) = calls.heads("a_model", [InputTensor("in", "INT32", (1, 2))], ["out"])
    return await calls.ask(head + bytes(8), timeout_s=timeout_s)


async def test_calls_one_after_the_other_share_a_connection(server: FakeServer) -> None:
    async with calls_of(server) as calls:
        for _ in range(3):
            assert await ask(calls) == ANSWERED
    assert server.n_connections == 1


async def test_calls_at_once_have_connections_of_their_own(server: FakeServer) -> None:
    async with calls_of(server) as calls:
        assert await asyncio.gather(*(ask(calls) for _ in range(6))) == [ANSWERED] * 6
        assert server.n_connections == 6
        assert await ask(calls) == ANSWERED
    assert server.n_connections == 6


async def test_a_connection_that_ended_meanwhile_is_made_anew(server: FakeServer) -> None:
    async with calls_of(server) as calls:
        assert await ask(calls) == ANSWERED
        server.answers, server.ends = [b""], True
        assert await ask(calls) == ANSWERED
    assert server.n_connections == 2
    assert server.n_requests == 3


async def test_a_connection_on_which_more_comes_than_was_asked_for_is_left(
    server: FakeServer,
) -> None:
    server.answers = [ANSWER + http(408, b"{}")]
    async with calls_of(server) as calls:
        assert await ask(calls) == ANSWERED
        assert [*await asyncio.gather(ask(calls), ask(calls))] == [ANSWERED] * 2
    assert server.n_connections == 3


async def test_a_connection_is_left_when_the_server_wants_it(server: FakeServer) -> None:
    server.answers = [ANSWER.replace(b"\r\nContent-", b"\r\nConnection: close\r\nContent-", 1)]
    async with calls_of(server) as calls:
        assert await ask(calls) == ANSWERED
        assert await ask(calls) == ANSWERED
    assert server.n_connections == 2


async def test_a_server_that_ends_while_it_answers_is_not_asked_again(server: FakeServer) -> None:
    async with calls_of(server) as calls:
        assert await ask(calls) == ANSWERED
        server.answers, server.ends = [ANSWER[:-2]], True
        with pytest.raises(CallFailed, match="the connection ended"):
            await ask(calls)
    assert server.n_requests == 2


async def test_a_server_that_ends_a_new_connection_at_once_is_told(server: FakeServer) -> None:
    server.answers, server.ends = [b""], True
    async with calls_of(server) as calls:
        with pytest.raises(CallFailed, match="the connection ended"):
            await ask(calls)
        assert await ask(calls) == ANSWERED


async def test_what_hangs_is_given_up_and_the_next_call_answered(server: FakeServer) -> None:
    async with calls_of(server) as calls:
        server.held.clear()
        with pytest.raises(CallFailed, match=r"no answer within 0\.100 s"):
            await ask(calls, timeout_s=0.1)
        server.held.set()
        assert await ask(calls) == ANSWERED
    assert server.n_connections == 2


async def test_an_answer_that_nobody_waits_for_frees_its_connection(server: FakeServer) -> None:
    async with calls_of(server) as calls:
        server.held.clear()
        asked = asyncio.create_task(ask(calls))
        await server.asked.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        server.held.set()
        await asyncio.sleep(0.1)
        assert await ask(calls) == ANSWERED
    assert server.n_connections == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "the response cannot be read"),
        (http(200, b"not JSON"), "an answer that cannot be read"),
        (http(200, b"{}"), "an answer that cannot be read"),
        (http(200, b"[]"), "an answer that cannot be read"),
        (http(503, b'{"error": "it is not ready"}'), "HTTP 503: it is not ready"),
        (http(502, b"<html>Bad Gateway"), "HTTP 502: <html>Bad Gateway"),
    ],
)
async def test_what_is_no_answer_is_told(server: FakeServer, answer: bytes, why: str) -> None:
    server.answers = [answer]
    async with calls_of(server) as calls:
        with pytest.raises(CallFailed, match=why) as raised:
            await ask(calls)
        assert not raised.value.perhaps_one_row
        assert await ask(calls) == ANSWERED


async def test_a_server_that_is_not_there_is_named() -> None:
    async with HttpCalls("127.0.0.1:1") as calls:
        with pytest.raises(CallFailed, match=r"HTTP at 127\.0\.0\.1:1: .*Connect call failed"):
            await ask(calls)
