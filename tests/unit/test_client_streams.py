"""The client's streams of intents, against a server that answers from a script."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from shopintent.client import (
    AsyncIntentStream,
    AsyncShopIntentClient,
    DeadlineExceededError,
    IntentStream,
    InvalidRequestError,
    ShopIntentClient,
    UnavailableError,
    Visitor,
    events,
)
from shopintent.client.conversation import MAX_UNANSWERED
from shopintent.v1.recommendation_service_pb2 import (
    DEGRADED_REASON_INTENT_UNAVAILABLE,
    PredictIntentResponse,
    StreamIntentsRequest,
    StreamIntentsResponse,
)
from support.scripted_server import ScriptedServer

MODEL_DOWN = DEGRADED_REASON_INTENT_UNAVAILABLE
Stream = IntentStream | AsyncIntentStream


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(params=[ShopIntentClient, AsyncShopIntentClient])
async def client(request: pytest.FixtureRequest, server: ScriptedServer) -> Any:
    """Each test runs once for the blocking and once for the asyncio client."""
    client = request.param(server.target, insecure=True)
    yield client
    await settled(client.close())


@pytest.fixture
async def visit(client: Any) -> Any:
    visit = client.stream_intents("anna")
    yield visit
    await settled(visit.close())


async def settled(result: Any) -> Any:
    """Returns what a blocking method returned, or what an asyncio method will return."""
    return await result if inspect.isawaitable(result) else result


async def sent(visit: Stream, *products: str, **options: Any) -> StreamIntentsResponse:
    """Sends a view of each product and returns the answer."""
    viewed = [events.view_product(product) for product in products]
    answer: StreamIntentsResponse = await settled(visit.send(viewed, **options))
    return answer


def failure(code: grpc.StatusCode, *details: Message) -> grpc.Status:
    status = status_pb2.Status(code=code.value[0], message="what went wrong")
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


UNAVAILABLE = failure(grpc.StatusCode.UNAVAILABLE)
OVERLOADED = failure(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    error_details_pb2.RetryInfo(retry_delay=Duration(nanos=10_000_000)),
)
INVALID = failure(grpc.StatusCode.INVALID_ARGUMENT)


def answers(*tokens: str) -> list[StreamIntentsResponse]:
    return [StreamIntentsResponse(consistency_token=each, recorded_count=1) for each in tokens]


def products(request: StreamIntentsRequest) -> list[str]:
    return [event.product_id for event in request.events]


async def test_a_visit_is_one_call_and_every_answer_belongs_to_its_events(
    server: ScriptedServer, visit: Stream
) -> None:
    server.script(*answers("1", "2", "3"))
    for number in ("1", "2", "3"):
        assert (await sent(visit, f"p{number}")).consistency_token == number
        assert visit.consistency_token == number
    (requests,) = server.calls
    assert [products(each) for each in requests] == [["p1"], ["p2"], ["p3"]]
    # Who it is about is said once.
    assert [each.visitor.visitor_id for each in requests] == ["anna", "", ""]


async def test_every_event_has_an_id_and_those_of_the_caller_are_kept(
    server: ScriptedServer, visit: Stream
) -> None:
    server.script(*answers("1"))
    mine, unnamed = events.favorite("p1", event_id="mine"), events.favorite("p2")
    await settled(visit.send([mine, unnamed]))
    first, second = server.requests[0].events
    assert first.event_id == "mine"
    assert len(second.event_id) == 36
    assert unnamed.event_id == ""


@pytest.mark.parametrize("broken", [UNAVAILABLE, OVERLOADED, failure(grpc.StatusCode.CANCELLED)])
async def test_what_was_not_answered_is_sent_again_with_the_same_ids(
    server: ScriptedServer, visit: Stream, broken: grpc.Status
) -> None:
    server.script(*answers("1"), broken, broken, *answers("2"))
    await sent(visit, "p1")
    assert (await sent(visit, "p2")).consistency_token == "2"
    first, second, third = server.calls
    assert [products(each) for each in first] == [["p1"], ["p2"]]
    assert first[1].events == second[0].events == third[0].events
    for resumed in (second[0], third[0]):
        assert resumed.visitor.visitor_id == "anna"
        assert resumed.consistency_token == "1"


async def test_a_server_that_ends_the_call_without_a_word_is_resumed_too(
    server: ScriptedServer, visit: Stream
) -> None:
    server.script(failure(grpc.StatusCode.OK), *answers("1"))
    assert (await sent(visit, "p1")).consistency_token == "1"


async def test_a_visit_goes_on_from_the_token_it_is_given(
    server: ScriptedServer, client: Any
) -> None:
    server.script(*answers("8"))
    visit = client.stream_intents("anna", consistency_token="7")
    await sent(visit, "p1")
    assert server.requests[0].consistency_token == "7"
    await settled(visit.close())


async def test_a_request_that_is_refused_is_told_and_the_visit_goes_on_without_it(
    server: ScriptedServer, visit: Stream
) -> None:
    server.script(INVALID, *answers("1"))
    with pytest.raises(InvalidRequestError):
        await sent(visit, "bad")
    assert (await sent(visit, "good")).consistency_token == "1"
    assert [products(each) for each in server.requests] == [["bad"], ["good"]]


async def test_events_of_a_failed_send_go_with_the_next_before_it(
    server: ScriptedServer, visit: Stream
) -> None:
    server.script(*[UNAVAILABLE] * 50)
    with pytest.raises(UnavailableError, match="what went wrong"):
        await sent(visit, "p1", timeout_s=0.3)
    n_tries = len(server.requests)
    server._answers.clear()
    server.script(*answers("1", "2"))
    assert (await sent(visit, "p2")).consistency_token == "2"
    first, second = server.requests[n_tries:]
    assert first.events == server.requests[0].events
    assert products(second) == ["p2"]


async def test_no_answer_in_time_is_a_deadline_exceeded_error_and_nothing_is_mixed_up(
    server: ScriptedServer, visit: Stream
) -> None:
    server.script(*answers("late"), delay_s=1.0)
    server.script(*answers("1", "2"))
    with pytest.raises(DeadlineExceededError, match="sent again with the next"):
        await sent(visit, "p1", timeout_s=0.2)
    assert (await sent(visit, "p2")).consistency_token == "2"


async def test_a_login_replaces_the_visitor_and_is_known_after_a_break(
    server: ScriptedServer, visit: Stream
) -> None:
    server.script(*answers("1", "2"), UNAVAILABLE, *answers("3"))
    await sent(visit, "p1")
    known = Visitor(visitor_id="anna", user_id="u7")
    await settled(visit.send(visitor=known))
    await sent(visit, "p2")
    first, second = server.calls
    assert first[1].visitor == known
    assert not first[2].HasField("visitor")
    assert second[0].visitor == known


async def test_requests_that_wait_are_bounded(client: Any, server: ScriptedServer) -> None:
    server.stop()
    visit = client.stream_intents("anna")
    for _ in range(MAX_UNANSWERED):
        with pytest.raises((UnavailableError, DeadlineExceededError)):
            await sent(visit, "p1", timeout_s=0.001)
    with pytest.raises(UnavailableError, match="were not taken"):
        await sent(visit, "p1", timeout_s=0.001)
    await settled(visit.close())


async def test_an_intent_arrives_whole(server: ScriptedServer, visit: Stream) -> None:
    intent = PredictIntentResponse(attribution_token="t", visit_purchase_probability=0.5)
    server.script(StreamIntentsResponse(intent=intent, degraded_reasons=[MODEL_DOWN]))
    answer = await settled(visit.send())
    assert answer.intent == intent
    assert list(answer.degraded_reasons) == [MODEL_DOWN]


def test_the_block_opens_and_ends_the_call(server: ScriptedServer) -> None:
    server.script(*answers("1"))
    before = set(threading.enumerate())
    with ShopIntentClient(server.target, insecure=True) as client:
        with client.stream_intents("anna") as visit:
            visit.send([events.view_product("p1")])
        left = [each for each in set(threading.enumerate()) - before if "consume" in each.name]
        for thread in left:
            thread.join(5)
            assert not thread.is_alive()


async def test_the_asyncio_block_opens_and_ends_the_call(server: ScriptedServer) -> None:
    server.script(*answers("1"))
    async with (
        AsyncShopIntentClient(server.target, insecure=True) as client,
        client.stream_intents("anna") as visit,
    ):
        assert (await visit.send([events.view_product("p1")])).recorded_count == 1


def test_threads_share_a_visit(server: ScriptedServer) -> None:
    server.script(*answers(*["t"] * 32))
    with (
        ShopIntentClient(server.target, insecure=True) as client,
        client.stream_intents("anna") as visit,
        futures.ThreadPoolExecutor(8) as pool,
    ):
        view = events.view_product("p1")
        assert len(list(pool.map(lambda _: visit.send([view]), range(32)))) == 32
    assert len(server.calls) == 1
