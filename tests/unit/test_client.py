"""The client against an in-process server that answers from a script."""

from __future__ import annotations

import inspect
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
    AsyncShopIntentClient,
    DeadlineExceededError,
    FieldViolation,
    InvalidRequestError,
    PermissionDeniedError,
    ProductNotFoundError,
    ReleaseNotFoundError,
    ReleaseNotReadyError,
    ShopIntentClient,
    ShopIntentError,
    UnavailableError,
    events,
)
from shopintent.client.calls import predict_intent
from shopintent.v1 import (
    catalog_service_pb2,
    event_service_pb2,
    product_pb2,
    recommendation_service_pb2,
    release_service_pb2,
    user_event_pb2,
    visitor_service_pb2,
)
from support.scripted_server import ScriptedServer

Client = ShopIntentClient | AsyncShopIntentClient
REQUEST_ID = "x-request-id"


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


async def settled(result: Any) -> Any:
    """Returns what a blocking method returned, or what an asyncio method will return."""
    return await result if inspect.isawaitable(result) else result


def failure(code: grpc.StatusCode, *details: Message) -> grpc.Status:
    """Returns a status with details, as the server sends it."""
    status = status_pb2.Status(code=code.value[0], message="what went wrong")
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


def reason(name: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(
        reason=f"ERROR_REASON_{name}", domain="shopintent", metadata=metadata
    )


CHANGES = [f"{verb}_release" for verb in ("shadow", "canary", "promote", "rollback", "delete")]
"""What a reason must be given for."""

UNAVAILABLE = failure(grpc.StatusCode.UNAVAILABLE, reason("MODEL_UNAVAILABLE", modelName="intent"))


async def test_every_rpc_returns_the_response_of_its_service(
    server: ScriptedServer, client: Client
) -> None:
    product = product_pb2.Product(id="p1", title="Kettle")
    release = release_service_pb2.Release(id="r1")
    answers = {
        "predict_intent": recommendation_service_pb2.PredictIntentResponse(attribution_token="a"),
        "recommend": recommendation_service_pb2.RecommendResponse(attribution_token="b"),
        "track_events": event_service_pb2.TrackEventsResponse(recorded_count=1),
        "get_product": catalog_service_pb2.GetProductResponse(product=product),
        "batch_update_products": catalog_service_pb2.BatchUpdateProductsResponse(
            products=[product]
        ),
        "delete_product": catalog_service_pb2.DeleteProductResponse(),
        "list_releases": release_service_pb2.ListReleasesResponse(next_page_token="2"),
        "get_release": release_service_pb2.GetReleaseResponse(release=release),
        "verify_release": release_service_pb2.VerifyReleaseResponse(release=release),
        "shadow_release": release_service_pb2.ShadowReleaseResponse(release=release),
        "canary_release": release_service_pb2.CanaryReleaseResponse(release=release),
        "promote_release": release_service_pb2.PromoteReleaseResponse(release=release),
        "rollback_release": release_service_pb2.RollbackReleaseResponse(release=release),
        "delete_release": release_service_pb2.DeleteReleaseResponse(),
        "delete_visitor": visitor_service_pb2.DeleteVisitorResponse(receipt_id="r"),
        "verify_deletion": visitor_service_pb2.VerifyDeletionResponse(deleted=True),
    }
    because = {"why": "to see"}
    arguments: dict[str, tuple[Any, ...]] = {
        "predict_intent": ("v1",),
        "recommend": ("v1",),
        "track_events": ("v1", [events.view_product("p1")]),
        "get_product": ("p1",),
        "batch_update_products": ([product],),
        "delete_product": ("p1",),
        "list_releases": (),
        "get_release": ("r1",),
        "verify_release": ("r1",),
        "shadow_release": ("r1", 50),
        "canary_release": ("r1", 5),
        "promote_release": ("r1",),
        "rollback_release": ("r1",),
        "delete_release": ("r1",),
        "delete_visitor": ("v1",),
        "verify_deletion": (user_event_pb2.Visitor(user_id="u1"),),
    }
    for name, answer in answers.items():
        server.script(answer)
        reason = because if name in CHANGES else {}
        assert await settled(getattr(client, name)(*arguments[name], **reason)) == answer


async def test_a_request_carries_what_the_caller_said(
    server: ScriptedServer, client: Client
) -> None:
    server.script(recommendation_service_pb2.RecommendResponse())
    event = events.search("kettle")
    wanted = recommendation_service_pb2.ProductFilter(categories=["Home > Kitchen"])
    await settled(
        client.recommend(
            user_event_pb2.Visitor(session_id="s1"),
            [event],
            placement="cart",
            page_size=5,
            product_filter=wanted,
            view=product_pb2.PRODUCT_VIEW_FULL,
            consistency_token="t1",
        )
    )
    assert server.requests == [
        recommendation_service_pb2.RecommendRequest(
            visitor=user_event_pb2.Visitor(session_id="s1"),
            recent_events=[event],
            placement="cart",
            page_size=5,
            filter=wanted,
            view=product_pb2.PRODUCT_VIEW_FULL,
            consistency_token="t1",
        )
    ]


async def test_unavailable_is_retried_until_it_works(
    server: ScriptedServer, client: Client
) -> None:
    answer = recommendation_service_pb2.PredictIntentResponse(attribution_token="t")
    server.script(UNAVAILABLE, UNAVAILABLE, answer)
    assert await settled(client.predict_intent("v1", timeout_s=10.0)) == answer
    assert len(server.requests) == 3


async def test_a_retried_event_keeps_its_id_so_that_it_counts_once(
    server: ScriptedServer, client: Client
) -> None:
    server.script(UNAVAILABLE, event_service_pb2.TrackEventsResponse(recorded_count=1))
    await settled(client.track_events("v1", [events.view_product("p1")], timeout_s=10.0))
    first, second = (request.events[0].event_id for request in server.requests)
    assert first
    assert first == second


async def test_an_event_id_of_the_caller_is_kept_and_the_event_left_alone(
    server: ScriptedServer, client: Client
) -> None:
    server.script(event_service_pb2.TrackEventsResponse())
    named, unnamed = events.favorite("p1", event_id="mine"), events.favorite("p1")
    await settled(client.track_events("v1", [named, unnamed]))
    assert server.requests[0].events[0].event_id == "mine"
    assert unnamed.event_id == ""


async def test_retries_end_and_the_last_failure_is_told(
    server: ScriptedServer, client: Client
) -> None:
    wait = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000))
    server.script(
        *[failure(grpc.StatusCode.UNAVAILABLE, reason("MODEL_UNAVAILABLE", modelName="m"), wait)]
        * 5
    )
    with pytest.raises(UnavailableError) as raised:
        await settled(client.predict_intent("v1", timeout_s=20.0))
    assert len(server.requests) == 4
    assert raised.value.reason == "ERROR_REASON_MODEL_UNAVAILABLE"
    assert raised.value.metadata == {"modelName": "m"}
    assert raised.value.retry_after_s == 2.5


async def test_an_invalid_request_is_not_retried_and_names_every_bad_field(
    server: ScriptedServer, client: Client
) -> None:
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field="page_size", description="is negative"),
        error_details_pb2.BadRequest.FieldViolation(field="placement", description="has spaces"),
    ]
    server.script(
        failure(
            grpc.StatusCode.INVALID_ARGUMENT,
            reason("INVALID_REQUEST"),
            error_details_pb2.BadRequest(field_violations=violations),
        )
    )
    with pytest.raises(InvalidRequestError, match="what went wrong") as raised:
        await settled(client.recommend("v1", page_size=-1))
    assert len(server.requests) == 1
    assert raised.value.violations == (
        FieldViolation("page_size", "is negative"),
        FieldViolation("placement", "has spaces"),
    )


async def test_a_missing_product_is_named(server: ScriptedServer, client: Client) -> None:
    server.script(failure(grpc.StatusCode.NOT_FOUND, reason("PRODUCT_NOT_FOUND", productId="gone")))
    with pytest.raises(ProductNotFoundError) as raised:
        await settled(client.get_product("gone"))
    assert raised.value.product_id == "gone"


async def test_a_missing_release_is_named(server: ScriptedServer, client: Client) -> None:
    server.script(failure(grpc.StatusCode.NOT_FOUND, reason("RELEASE_NOT_FOUND", releaseId="r9")))
    with pytest.raises(ReleaseNotFoundError) as raised:
        await settled(client.get_release("r9"))
    assert raised.value.release_id == "r9"


async def test_a_release_that_is_not_ready_is_named(server: ScriptedServer, client: Client) -> None:
    server.script(
        failure(grpc.StatusCode.FAILED_PRECONDITION, reason("RELEASE_NOT_READY", releaseId="r2"))
    )
    with pytest.raises(ReleaseNotReadyError) as raised:
        await settled(client.promote_release("r2", why="to see"))
    assert raised.value.release_id == "r2"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING"),
        (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    ],
)
async def test_whoever_may_not_is_told(
    server: ScriptedServer, client: Client, code: grpc.StatusCode, name: str
) -> None:
    server.script(failure(code, reason(name)))
    with pytest.raises(PermissionDeniedError) as raised:
        await settled(client.list_releases())
    assert raised.value.code is code


@pytest.mark.parametrize("kind", [ShopIntentClient, AsyncShopIntentClient])
async def test_each_token_goes_with_the_calls_it_is_for_and_no_others(
    server: ScriptedServer, kind: Any
) -> None:
    tokens = {"release_token": "a-token", "visitor_token": "another"}
    client = kind(server.target, insecure=True, **tokens)
    server.script(
        release_service_pb2.ListReleasesResponse(),
        visitor_service_pb2.DeleteVisitorResponse(),
        catalog_service_pb2.DeleteProductResponse(),
    )
    await settled(client.list_releases())
    await settled(client.delete_visitor("v1"))
    await settled(client.delete_product("p1"))
    await settled(client.close())
    sent = [each.get("authorization") for each in server.metadata]
    assert sent == ["Bearer a-token", "Bearer another", None]


async def test_no_answer_within_the_timeout_is_a_deadline_exceeded_error(
    server: ScriptedServer, client: Client
) -> None:
    server.script(recommendation_service_pb2.PredictIntentResponse(), delay_s=2.0)
    with pytest.raises(DeadlineExceededError):
        await settled(client.predict_intent("v1", timeout_s=0.2))
    assert len(server.requests) == 1


async def test_the_server_learns_the_deadline_of_every_call(
    server: ScriptedServer, client: Client
) -> None:
    server.script(recommendation_service_pb2.PredictIntentResponse())
    await settled(client.predict_intent("v1"))
    # On the wire gRPC rounds a timeout of seconds up to hundredths.
    assert 0 < server.time_remaining_s[0] <= predict_intent().timeout_s + 0.01


async def test_other_failures_carry_code_reason_and_request_id(
    server: ScriptedServer, client: Client
) -> None:
    server.script(
        failure(grpc.StatusCode.INTERNAL, reason("INTERNAL", requestId="r-1")),
        trailing_metadata=((REQUEST_ID, "r-1"),),
    )
    with pytest.raises(ShopIntentError, match="INTERNAL: what went wrong") as raised:
        await settled(client.delete_product("p1"))
    assert raised.value.code is grpc.StatusCode.INTERNAL
    assert raised.value.reason == "ERROR_REASON_INTERNAL"
    assert raised.value.request_id == "r-1"


async def test_a_failure_without_details_still_has_its_code(
    server: ScriptedServer, client: Client
) -> None:
    server.script(failure(grpc.StatusCode.PERMISSION_DENIED))
    with pytest.raises(ShopIntentError) as raised:
        await settled(client.get_product("p1"))
    assert raised.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert raised.value.reason == ""
    assert raised.value.request_id == ""


async def test_damaged_details_do_not_hide_the_failure(
    server: ScriptedServer, client: Client
) -> None:
    server.script(
        failure(grpc.StatusCode.INTERNAL), trailing_metadata=(("grpc-status-details-bin", b"\xff"),)
    )
    with pytest.raises(ShopIntentError) as raised:
        await settled(client.get_product("p1"))
    assert raised.value.code is grpc.StatusCode.INTERNAL


async def test_no_server_is_an_unavailable_error(server: ScriptedServer, client: Client) -> None:
    server.stop()
    with pytest.raises(UnavailableError) as raised:
        await settled(client.predict_intent("v1", timeout_s=20.0))
    assert raised.value.retry_after_s is None


def test_leaving_the_block_closes_the_channel(server: ScriptedServer) -> None:
    with ShopIntentClient(server.target, insecure=True) as client:
        pass
    with pytest.raises(ValueError, match="closed channel"):
        client.predict_intent("v1")


async def test_leaving_the_asyncio_block_closes_the_channel(server: ScriptedServer) -> None:
    async with AsyncShopIntentClient(server.target, insecure=True) as client:
        pass
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        await client.predict_intent("v1")


def test_threads_share_one_client(server: ScriptedServer) -> None:
    answer = recommendation_service_pb2.PredictIntentResponse(attribution_token="t")
    server.script(*[answer] * 32)
    with (
        ShopIntentClient(server.target, insecure=True) as client,
        futures.ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda _: client.predict_intent("v1", timeout_s=20.0), range(32)))
    assert answers == [answer] * 32
