"""VisitorService: who may delete, what is deleted, and what the receipt and the log say of it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from shopintent.server.app import App
from shopintent.server.deletion import VisitorEraser
from shopintent.server.errors import StateUnavailable
from shopintent.server.logs import JsonFormatter
from shopintent.server.permission import visitor_permission
from shopintent.server.pseudonyms import Keyring, PseudonymKey
from shopintent.v1 import event_service_pb2 as event_pb
from shopintent.v1 import recommendation_service_pb2 as recommendation_pb
from shopintent.v1 import visitor_service_pb2 as pb
from shopintent.v1 import visitor_service_pb2_grpc
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor
from support.server import Served, app_of, config_of, failure_of, make_outside, running

pytestmark = pytest.mark.events

TOKEN = "0123456789abcdef"
CREDENTIALS = (("authorization", f"Bearer {TOKEN}"),)
KEYRING = Keyring((PseudonymKey("k2", b"new" * 8), PseudonymKey("k1", b"old" * 8)))
ANNA = Visitor(visitor_id="anna-of-the-laptop", user_id="anna-lee-0001")
REQUESTS: dict[str, Any] = {
    "DeleteVisitor": pb.DeleteVisitorRequest(visitor=ANNA),
    "VerifyDeletion": pb.VerifyDeletionRequest(visitor=ANNA),
}


@dataclass
class FakeLog:
    """An event log that holds pseudonyms, one record each."""

    records: list[str] = field(default_factory=list)
    down: bool = False

    async def delete(self, pseudonyms: Collection[str]) -> int:
        kept = [each for each in self.records if each not in pseudonyms]
        deleted, self.records[:] = len(self.records) - len(kept), kept
        return deleted

    async def search(self, texts: Collection[str]) -> int:
        if self.down:
            raise StateUnavailable("event log", "the disk is gone")
        return sum(each in texts for each in self.records)


@dataclass(frozen=True)
class Shop:
    """A server that may delete visitors."""

    served: Served
    log: FakeLog

    async def call(self, method: str, request: Any = None, metadata: Any = CREDENTIALS) -> Any:
        stub = visitor_service_pb2_grpc.VisitorServiceStub(self.served.channel)
        request = REQUESTS[method] if request is None else request
        return await getattr(stub, method)(request, metadata=metadata, timeout=20)

    async def track(self, product_id: str = "p8", **event: Any) -> event_pb.TrackEventsResponse:
        seen = UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=product_id, **event)
        request = event_pb.TrackEventsRequest(visitor=ANNA, events=[seen])
        answer: event_pb.TrackEventsResponse = await self.served.events.TrackEvents(request)
        return answer


@asynccontextmanager
async def shop_of(folder: Path, token: str = TOKEN, **options: Any) -> AsyncIterator[Shop]:
    outside, log = make_outside(folder), FakeLog()
    config = config_of(visitor_token=token, **options)
    traffic = app_of(config, outside).traffic
    eraser = VisitorEraser(outside.sessions, KEYRING, log)
    app = App(config, outside.sessions, outside.journal, traffic, eraser=eraser)
    async with running(app) as channel_app:
        yield Shop(Served(*channel_app, outside), log)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_of(tmp_path) as shop:
        yield shop


def counts(answer: Any) -> dict[str, int]:
    return {each.store: each.count for each in answer.stores}


async def test_a_visitor_is_deleted_everywhere_and_the_receipt_counts_it(shop: Shop) -> None:
    shop.log.records += ["k9-somebody", *KEYRING.pseudonyms("user:anna-lee-0001")]
    await shop.track()
    await shop.track()
    before = await shop.call("VerifyDeletion")
    assert not before.deleted
    assert counts(before)["event-log"] == 2
    started = time.time()
    receipt = await shop.call("DeleteVisitor")
    assert counts(receipt) == {"sessions": 2, "event-log": 2, "counters": 2}
    assert {each.store: each.unit for each in receipt.stores}["sessions"] == "events"
    assert receipt.delete_time.ToNanoseconds() / 1e9 == pytest.approx(started, abs=5)
    assert len(receipt.receipt_id) == 32
    after = await shop.call("VerifyDeletion")
    assert after.deleted
    assert set(counts(after).values()) == {0}
    assert shop.log.records == ["k9-somebody"]
    for key in ("user:anna-lee-0001", "visitor:anna-of-the-laptop"):
        assert not (await shop.served.outside.sessions.recent(key)).events


async def test_deleting_again_finds_nothing_and_says_so(shop: Shop) -> None:
    await shop.track()
    first, again = await shop.call("DeleteVisitor"), await shop.call("DeleteVisitor")
    assert set(counts(again).values()) == {0}
    assert first.receipt_id != again.receipt_id


async def test_ids_joined_at_login_go_together_whichever_is_given(shop: Shop) -> None:
    await shop.track()
    one = pb.DeleteVisitorRequest(visitor=Visitor(visitor_id=ANNA.visitor_id))
    assert counts(await shop.call("DeleteVisitor", one))["sessions"] == 1
    assert (await shop.call("VerifyDeletion")).deleted


async def test_events_from_before_the_deletion_are_dropped_later_ones_begin_anew(
    shop: Shop,
) -> None:
    await shop.track()
    await shop.call("DeleteVisitor")
    late = await shop.track()
    # Whole seconds count: what happens in the second of the deletion may be from before it.
    assert late.recorded_count == 0
    ahead = {"seconds": int(time.time()) + 2}
    assert (await shop.track(event_time=ahead)).recorded_count == 1
    asked = recommendation_pb.PredictIntentRequest(visitor=ANNA)
    await shop.served.recommendation.PredictIntent(asked)
    assert len(shop.served.outside.model.behaviors[-1].tokens) == 1


async def test_a_deletion_is_logged_and_names_nobody(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="shopintent")
    await shop.track()
    receipt = await shop.call("DeleteVisitor")
    lines = [JsonFormatter().format(each) for each in caplog.records]
    (line,) = [json.loads(each) for each in lines if "visitor deleted" in each]
    assert line["receipt_id"] == receipt.receipt_id
    assert line["deleted"] == {"sessions": 1, "event-log": 0, "counters": 1}
    assert line["who"].startswith("rpc:")
    for secret in (ANNA.visitor_id, ANNA.user_id, TOKEN):
        assert not any(secret in each for each in lines)


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_request_must_name_somebody(shop: Shop, method: str) -> None:
    for visitor, path in (
        (Visitor(), "visitor"),
        (Visitor(session_id="x" * 129), "visitor.session_id"),
    ):
        failure = await failure_of(shop.call(method, type(REQUESTS[method])(visitor=visitor)))
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(failure.violations) == [path]


@pytest.mark.parametrize("method", REQUESTS)
async def test_only_whoever_holds_the_visitor_token_is_answered(shop: Shop, method: str) -> None:
    await shop.track()
    nothing = type(REQUESTS[method])()
    for request in (REQUESTS[method], nothing):
        failure = await failure_of(shop.call(method, request, ()))
        assert failure.code is grpc.StatusCode.UNAUTHENTICATED
        assert failure.info.reason == "ERROR_REASON_CREDENTIALS_MISSING"
        other = (("authorization", f"Bearer {TOKEN}x"),)
        failure = await failure_of(shop.call(method, request, other))
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED
        assert failure.info.reason == "ERROR_REASON_PERMISSION_DENIED"
    assert len((await shop.served.outside.sessions.recent("user:anna-lee-0001")).events) == 1


async def test_a_server_without_a_token_lets_nobody_in_and_says_what_to_do(tmp_path: Path) -> None:
    async with shop_of(tmp_path, token="") as shop:
        failure = await failure_of(shop.call("DeleteVisitor"))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    assert "SHOPINTENT_VISITOR_TOKEN_FILE" in failure.message
    assert TOKEN not in repr(visitor_permission(TOKEN))


async def test_the_token_of_releases_deletes_nobody(tmp_path: Path) -> None:
    other = "fedcba9876543210"
    async with shop_of(tmp_path, release_token=other) as shop:
        failure = await failure_of(
            shop.call("DeleteVisitor", metadata=(("authorization", f"Bearer {other}"),))
        )
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_store_that_does_not_answer_is_said(shop: Shop) -> None:
    shop.log.down = True
    failure = await failure_of(shop.call("VerifyDeletion"))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.info.reason == "ERROR_REASON_STATE_UNAVAILABLE"


async def test_deletions_are_answered_however_busy_the_server_is(tmp_path: Path) -> None:
    async with shop_of(tmp_path, max_concurrent_rpcs=1) as shop:
        model = shop.served.outside.model
        model.delay_s = 0.5
        asking = shop.served.recommendation.PredictIntent(
            recommendation_pb.PredictIntentRequest(visitor=ANNA)
        )
        await model.asked.wait()
        assert (await shop.call("DeleteVisitor")).receipt_id
        await asking
