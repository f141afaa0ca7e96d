"""What surrounds every call: bytes that are no message, faults of ours, request ids, the log."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from shopintent.server.errors import ModelUnavailable
from shopintent.server.interceptors.errors import to_status
from shopintent.server.logs import JsonFormatter
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor
from support.server import Served, failure_of, make_outside, serving, unpack

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
    lines = [JsonFormatter().format(each) for each in caplog.records if each.message == "call"]
    assert [json.loads(line)["code"] for line in lines] == ["OK", "INVALID_ARGUMENT"]
    assert json.loads(lines[0])["method"] == METHOD
    assert not any("anna" in line or "p7" in line for line in lines)


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


async def test_a_request_of_more_than_4_mib_is_refused(served: Served) -> None:
    call: Any = served.channel.unary_unary(METHOD)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"x" * (4 * 1024 * 1024 + 1), timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_unpack_is_strict() -> None:
    """The helper that the tests rely on does not take an error without details for one with."""
    empty = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, empty, empty, "bare")
    with pytest.raises(AssertionError, match="without details"):
        unpack(error)
