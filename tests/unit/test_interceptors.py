"""What surrounds every call: bytes that are no message, faults of ours, request ids, the log."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2
from google.type import money_pb2

from shopintent.server.errors import ModelUnavailable
from shopintent.server.interceptors import logging as logging_calls
from shopintent.server.interceptors.errors import to_status
from shopintent.v1 import catalog_service_pb2 as catalog_pb
from shopintent.v1 import event_service_pb2 as event_pb
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import Product
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor
from support.server import Served, call_lines, failure_of, make_outside, serving, unpack

METHOD = "/shopintent.v1.RecommendationService/Recommend"
VIEW = UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id="p7")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(make_outside(tmp_path)) as served:
        yield served


NOT_MESSAGES = {
    # RecommendRequest.placement (field 3) of two bytes that are not UTF-8.
    "invalid UTF-8": b"\x1a\x02\xff\xfe",
    "cut short": b"\x1a\x7f",
    "noise": b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", NOT_MESSAGES)
async def test_bytes_that_are_no_message_are_the_callers_mistake(served: Served, name: str) -> None:
    call: Any = served.channel.unary_unary(METHOD)
    failure = await failure_of(call(NOT_MESSAGES[name], timeout=5))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "ERROR_REASON_INVALID_REQUEST"
    assert list(failure.violations) == ["request"]


def spoiled(message: bytes, rng: random.Random) -> bytes:
    """Returns the bytes with a few of them changed, left out or repeated."""
    content = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(len(content) + 1)
        content[position : position + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 3))
    return bytes(content)


VALID: dict[str, Any] = {
    "RecommendationService/Recommend": pb.RecommendRequest(
        visitor=Visitor(visitor_id="anna"),
        recent_events=[VIEW],
        placement="home",
        page_size=3,
        filter=pb.ProductFilter(categories=["Garden"], minimum_price=1, maximum_price=9),
    ),
    "RecommendationService/PredictIntent": pb.PredictIntentRequest(recent_events=[VIEW]),
    "EventService/TrackEvents": event_pb.TrackEventsRequest(
        visitor=Visitor(session_id="s"),
        events=[UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id="p7", quantity=2)],
    ),
    "CatalogService/GetProduct": catalog_pb.GetProductRequest(product_id="p7"),
    "CatalogService/DeleteProduct": catalog_pb.DeleteProductRequest(product_id="p7"),
    "CatalogService/BatchUpdateProducts": catalog_pb.BatchUpdateProductsRequest(
        products=[
            Product(
                id="p7",
                title="é",
                categories=["a > b"],
                price=money_pb2.Money(units=1, nanos=5, currency_code="EUR"),
            )
        ],
        update_mask=field_mask_pb2.FieldMask(paths=["title", "price"]),
    ),
}


@pytest.mark.parametrize("method", VALID)
async def test_no_bytes_whatever_make_the_server_fail(served: Served, method: str) -> None:
    rng = random.Random(method)
    call: Any = served.channel.unary_unary(f"/shopintent.v1.{method}")
    valid = VALID[method].SerializeToString()
    answered = set()
    for _ in range(150):
        request = spoiled(valid, rng)
        try:
            await call(request, timeout=5)
            answered.add("OK")
        except grpc.aio.AioRpcError as error:
            answered.add(error.code().name)
    assert "INVALID_ARGUMENT" in answered
    assert answered <= {"OK", "NOT_FOUND", "INVALID_ARGUMENT"}


async def test_a_fault_of_ours_tells_its_request_id_and_nothing_else(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret detail")

    served.outside.model.predict = broken  # type: ignore[method-assign]
    request = pb.PredictIntentRequest()
    metadata = (("x-request-id", "shop-42"),)
    failure = await failure_of(served.recommendation.PredictIntent(request, metadata=metadata))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert dict(failure.info.metadata) == {"requestId": "shop-42"}
    assert "secret" not in failure.message
    logged = next(each for each in caplog.records if each.message == "call failed")
    assert logged.exc_info is not None
    assert "secret detail" in str(logged.exc_info[1])


@pytest.mark.parametrize("offered", ["", "x" * 65, "two words", '{"forged": 1}'])
async def test_a_request_id_that_is_unusable_is_replaced(served: Served, offered: str) -> None:
    call = served.recommendation.Recommend(
        pb.RecommendRequest(), metadata=(("x-request-id", offered),)
    )
    await call
    answered = dict(await call.trailing_metadata())["x-request-id"]
    assert answered != offered
    assert len(answered) == 32


async def test_the_request_id_comes_back_with_answers_and_errors(served: Served) -> None:
    metadata = (("x-request-id", "shop-42"),)
    call = served.recommendation.Recommend(pb.RecommendRequest(), metadata=metadata)
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "shop-42"
    bad = served.recommendation.Recommend(pb.RecommendRequest(page_size=-1), metadata=metadata)
    await failure_of(bad)
    assert dict(await bad.trailing_metadata())["x-request-id"] == "shop-42"


async def test_a_call_is_one_json_line_without_personal_data(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="shopintent")
    request = pb.RecommendRequest(visitor=Visitor(visitor_id="anna"), recent_events=[VIEW])
    await served.recommendation.Recommend(request)
    await failure_of(served.recommendation.Recommend(pb.RecommendRequest(page_size=-1)))
    await served.health()
    lines = await call_lines(caplog, 2)
    assert [json.loads(line)["code"] for line in lines] == ["OK", "INVALID_ARGUMENT"]
    assert json.loads(lines[0])["method"] == METHOD
    assert not any("anna" in line or "p7" in line for line in lines)


async def test_the_last_calls_are_logged_before_the_server_has_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging_calls, "LATE_S", 3600.0)
    caplog.set_level(logging.INFO, logger="shopintent")
    async with serving(make_outside(tmp_path)) as served:
        await served.recommendation.Recommend(pb.RecommendRequest())
        assert not [each for each in caplog.records if each.message == "call"]
    assert len(await call_lines(caplog, 1)) == 1


def test_an_error_worth_retrying_says_when() -> None:
    status = to_status(ModelUnavailable("intent_r1", "it is down"))
    assert [detail.TypeName() for detail in status.details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
    ]


async def test_an_unknown_method_is_unimplemented(served: Served) -> None:
    call: Any = served.channel.unary_unary("/shopintent.v1.RecommendationService/Guess")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_request_of_more_than_16_mib_is_refused(served: Served) -> None:
    call: Any = served.channel.unary_unary(METHOD)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"x" * (16 * 1024 * 1024 + 1), timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_unpack_is_strict() -> None:
    """The helper that the tests rely on does not take an error without details for one with."""
    empty = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, empty, empty, "bare")
    with pytest.raises(AssertionError, match="without details"):
        unpack(error)
