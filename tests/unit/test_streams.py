"""StreamIntents, promise by promise, through a server in this process."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from shopintent.client import AsyncShopIntentClient
from shopintent.client import events as client_events
from shopintent.server.errors import StateUnavailable
from shopintent.server.metrics import CALLS, IN_FLIGHT, STREAM_REQUEST
from shopintent.server.sessions import History
from shopintent.v1 import event_service_pb2 as event_pb
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1 import recommendation_service_pb2_grpc
from shopintent.v1.user_event_pb2 import (
    EVENT_TYPE_IMPRESSION,
    EVENT_TYPE_SEARCH,
    EVENT_TYPE_VIEW_PRODUCT,
    UserEvent,
    Visitor,
)
from support.server import (
    Failure,
    Served,
    call_lines,
    eventually,
    make_outside,
    serving,
    unpack,
)

pytestmark = pytest.mark.events

ANNA = Visitor(visitor_id="anna")
METHOD = "/shopintent.v1.RecommendationService/StreamIntents"


def view(product_id: str, event_id: str = "") -> UserEvent:
    return UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=product_id, event_id=event_id)


def request(*events: UserEvent, **fields: Any) -> pb.StreamIntentsRequest:
    return pb.StreamIntentsRequest(events=events, **fields)


@dataclass
class Visit:
    """A call of StreamIntents, whose first request is about Anna where nothing else is said."""

    call: Any
    visitor: Visitor | None = field(default_factory=lambda: ANNA)

    async def ask(self, *events: UserEvent, **fields: Any) -> pb.StreamIntentsResponse:
        if self.visitor is not None:
            fields = {"visitor": self.visitor, **fields}
            self.visitor = None
        await self.call.write(request(*events, **fields))
        answer = await self.call.read()
        assert answer is not grpc.aio.EOF
        return answer  # type: ignore[no-any-return]

    async def failure(self) -> Failure:
        """Returns how the call ended."""
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return unpack(error)
        raise AssertionError("the call ended well")


@asynccontextmanager
async def visiting(served: Served, **options: Any) -> AsyncIterator[Visit]:
    call = served.recommendation.StreamIntents(**options)
    yield Visit(call)
    call.cancel()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(make_outside(tmp_path)) as served:
        yield served


@pytest.fixture
async def visit(served: Served) -> AsyncIterator[Visit]:
    async with visiting(served) as visit:
        yield visit


async def tracked(served: Served, key: str = "visitor:anna") -> list[str]:
    """Returns the products of the events that are recorded of a visitor."""
    history: History = await served.outside.sessions.recent(key)
    return [event.product_id for event in history.events]


def read_by_the_model(served: Served) -> list[int]:
    """Returns the product tokens of the behavior that was read last."""
    tokens: list[int] = served.outside.model.behaviors[-1].tokens[:, 1].tolist()
    return tokens


async def test_each_request_is_recorded_and_answered_with_the_intent_after_it(
    served: Served, visit: Visit
) -> None:
    lookup = served.outside.release.tokenizer.products.lookup
    for n, product_id in enumerate(("p8", "p9", "p10"), start=1):
        answer = await visit.ask(view(product_id))
        assert answer.recorded_count == 1
        assert await tracked(served) == ["p8", "p9", "p10"][:n]
        assert read_by_the_model(served) == [lookup(each) for each in ["p8", "p9", "p10"][:n]]
    intent = answer.intent
    assert sum(each.probability for each in intent.next_actions) == pytest.approx(1, abs=1e-5)
    assert intent.visit_purchase_probability == 0.25
    assert intent.model.release_id == "r1"
    assert not answer.degraded_reasons


async def test_the_intent_is_the_one_that_predict_intent_tells(
    served: Served, visit: Visit
) -> None:
    streamed = (await visit.ask(view("p8"))).intent
    asked = await served.recommendation.PredictIntent(pb.PredictIntentRequest(visitor=ANNA))
    streamed.attribution_token = asked.attribution_token = ""
    assert streamed == asked


async def test_requests_sent_at_once_are_answered_one_each_in_their_order(
    served: Served, visit: Visit
) -> None:
    for n in range(20):
        await visit.call.write(request(*[view(f"p{8 + n}")] * (n % 3), visitor=ANNA))
    answers = [await visit.call.read() for _ in range(20)]
    assert [each.recorded_count for each in answers] == [n % 3 for n in range(20)]


async def test_a_stream_ends_well_when_the_client_has_no_more_to_say(visit: Visit) -> None:
    await visit.ask(view("p8"))
    await visit.call.done_writing()
    assert await visit.call.read() is grpc.aio.EOF
    assert await visit.call.code() is grpc.StatusCode.OK


async def test_events_sent_again_count_once_also_in_another_call(
    served: Served, visit: Visit
) -> None:
    first = await visit.ask(view("p8", "e1"), view("p9", "e2"))
    again = await visit.ask(view("p9", "e2"), view("p10", "e3"))
    assert (first.recorded_count, again.recorded_count) == (2, 1)
    async with visiting(served) as resumed:
        answer = await resumed.ask(view("p10", "e3"), consistency_token=again.consistency_token)
    assert answer.recorded_count == 0
    assert not answer.degraded_reasons
    assert await tracked(served) == ["p8", "p9", "p10"]


async def test_the_token_of_an_answer_is_good_for_other_calls(served: Served, visit: Visit) -> None:
    token = (await visit.ask(view("p8"))).consistency_token
    assert 0 < len(token) <= 200
    assert "anna" not in base64.urlsafe_b64decode(token + "==").decode("latin-1")
    for ask in (
        served.recommendation.PredictIntent(
            pb.PredictIntentRequest(visitor=ANNA, consistency_token=token)
        ),
        served.recommendation.Recommend(pb.RecommendRequest(visitor=ANNA, consistency_token=token)),
    ):
        assert not (await ask).degraded_reasons
    # A request without events says what was said before.
    assert (await visit.ask()).consistency_token == token


async def test_without_events_the_answer_tells_the_intent_as_it_is(
    served: Served, visit: Visit
) -> None:
    await served.events.TrackEvents(event_pb.TrackEventsRequest(visitor=ANNA, events=[view("p8")]))
    answer = await visit.ask()
    assert (answer.recorded_count, answer.HasField("intent")) == (0, True)
    assert len(read_by_the_model(served)) == 1


async def test_impressions_are_recorded_and_are_no_behavior(served: Served, visit: Visit) -> None:
    shown = UserEvent(event_type=EVENT_TYPE_IMPRESSION, shown_product_ids=["p8", "p9"])
    answer = await visit.ask(shown)
    assert answer.recorded_count == 1
    assert read_by_the_model(served) == []
    assert await tracked(served) == []


async def test_the_visitor_may_be_left_out_later_and_replaced(served: Served, visit: Visit) -> None:
    await visit.ask(view("p8"))
    await visit.ask(view("p9"), visitor=Visitor(session_id="s"))
    await visit.ask(view("p10"))
    assert await tracked(served) == ["p8"]
    assert await tracked(served, "session:s") == ["p9", "p10"]


async def test_whoever_logs_in_is_joined_at_once_even_without_events(
    served: Served, visit: Visit
) -> None:
    await visit.ask(view("p8"))
    user = Visitor(user_id="u7")
    await served.events.TrackEvents(event_pb.TrackEventsRequest(visitor=user, events=[view("p9")]))
    await visit.ask(visitor=Visitor(visitor_id="anna", user_id="u7"))
    assert sorted(await tracked(served, "user:u7")) == ["p8", "p9"]
    assert len(read_by_the_model(served)) == 2
    assert await tracked(served, "visitor:anna") == await tracked(served, "user:u7")


BAD_REQUESTS: dict[str, tuple[pb.StreamIntentsRequest, str]] = {
    "nobody new": (request(visitor=Visitor()), "visitor"),
    "a long id": (request(visitor=Visitor(user_id="x" * 129)), "visitor.user_id"),
    "101 events": (request(*[view("p8")] * 101), "events"),
    "a bad event": (request(view("p8"), view("")), "events[1].product_id"),
    "a foreign token": (request(consistency_token="bm8gdG9rZW4"), "consistency_token"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_a_bad_request_ends_the_call_and_nothing_of_it_is_recorded(
    served: Served, visit: Visit, name: str
) -> None:
    bad, path = BAD_REQUESTS[name]
    await visit.ask(view("p9"))
    await visit.call.write(bad)
    failure = await visit.failure()
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "ERROR_REASON_INVALID_REQUEST"
    assert list(failure.violations) == [path]
    assert await tracked(served) == ["p9"]


async def test_the_first_request_must_say_who_it_is_about(served: Served) -> None:
    async with visiting(served) as visit:
        await visit.call.write(request(view("p8")))
        assert list((await visit.failure()).violations) == ["visitor"]


async def test_bytes_that_are_no_message_are_the_callers_mistake(served: Served) -> None:
    call: Any = served.channel.stream_stream(METHOD)()
    await call.write(b"\xff\xff\xff")
    failure = await Visit(call).failure()
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(failure.violations) == ["request"]


async def test_events_are_recorded_while_the_intent_can_not_be_predicted(
    served: Served, visit: Visit
) -> None:
    served.outside.model.down = True
    answer = await visit.ask(view("p8"))
    assert (answer.recorded_count, answer.HasField("intent")) == (1, False)
    assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_INTENT_UNAVAILABLE]
    served.outside.model.down = False
    answer = await visit.ask()
    assert answer.HasField("intent")
    assert not answer.degraded_reasons


async def test_a_server_that_does_not_serve_yet_records_all_the_same(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    outside.repository.down = True
    async with serving(outside) as served, visiting(served) as visit:
        answer = await visit.ask(view("p8"))
        assert answer.recorded_count == 1
        assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_INTENT_UNAVAILABLE]


async def test_an_intent_without_all_that_it_could_know_says_so(
    served: Served, visit: Visit
) -> None:
    served.outside.encoder.down = True
    search = UserEvent(event_type=EVENT_TYPE_SEARCH, search_query="red chair")
    answer = await visit.ask(search)
    missing = [pb.DEGRADED_REASON_TEXT_ENCODER_UNAVAILABLE]
    assert list(answer.degraded_reasons) == list(answer.intent.degraded_reasons) == missing


async def test_a_token_that_the_store_lost_is_said_and_the_intent_told_without(
    served: Served, visit: Visit
) -> None:
    token = (await visit.ask(view("p8"))).consistency_token
    await served.outside.sessions.delete("visitor:anna", timeout_s=1)
    answer = await visit.ask(consistency_token=token)
    assert answer.HasField("intent")
    assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_BEHAVIOR_UNAVAILABLE]


def without(served: Served, name: str) -> None:
    """Breaks a method of the session store."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise StateUnavailable("sessions", "the disk is full")

    setattr(served.outside.sessions, name, fail)


async def test_behavior_that_can_not_be_read_leaves_the_intent_out(
    served: Served, visit: Visit
) -> None:
    without(served, "recent")
    answer = await visit.ask(view("p8"))
    assert (answer.recorded_count, answer.HasField("intent")) == (1, False)
    assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_BEHAVIOR_UNAVAILABLE]


async def test_what_can_not_be_recorded_ends_the_call_as_track_events_fails(
    served: Served, visit: Visit
) -> None:
    without(served, "append")
    await visit.call.write(request(view("p8"), visitor=ANNA))
    failure = await visit.failure()
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.info.reason == "ERROR_REASON_STATE_UNAVAILABLE"
    assert failure.retry_delay_s == 1.0


async def test_a_stream_without_requests_ends_and_can_be_resumed(
    served: Served, visit: Visit
) -> None:
    await visit.ask(view("p8", "e1"))
    served.app._streams._idle_s = 0.05
    await visit.ask(view("p9", "e2"))
    failure = await visit.failure()
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.info.reason == "ERROR_REASON_STREAM_ENDED"
    async with visiting(served) as resumed:
        assert (await resumed.ask(view("p9", "e2"))).recorded_count == 0


async def test_a_server_that_shuts_down_ends_streams_at_once_with_what_it_answers_told(
    tmp_path: Path,
) -> None:
    outside = make_outside(tmp_path)
    async with (
        serving(outside, grace_s=20.0) as served,
        visiting(served) as idle,
        visiting(served) as busy,
    ):
        await idle.ask(view("p8"))
        outside.model.delay_s = 0.5
        outside.model.asked.clear()
        asking = asyncio.create_task(busy.ask(view("p9")))
        await outside.model.asked.wait()
        stopping = asyncio.create_task(served.app.stop())
        assert (await idle.failure()).info.reason == "ERROR_REASON_STREAM_ENDED"
        assert not asking.done()
        assert (await asking).recorded_count == 1
        assert (await busy.failure()).info.reason == "ERROR_REASON_STREAM_ENDED"
        async with asyncio.timeout(5):
            await stopping


SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
"""A client that takes in little before it is read."""


async def test_a_client_that_does_not_read_is_not_read_from(tmp_path: Path) -> None:
    """Neither answers nor requests pile up: soon the client can not send any more."""
    outside, address = make_outside(tmp_path), f"unix:{tmp_path}/server"
    long = UserEvent(event_type=EVENT_TYPE_SEARCH, search_query="x" * 1000)
    n_written = 0

    async def write_on(visit: Visit) -> None:
        nonlocal n_written
        while True:
            await visit.call.write(request(*[long] * 20, visitor=ANNA))
            n_written += 1

    async with (
        serving(outside, listen=address),
        grpc.aio.insecure_channel(address, SMALL_WINDOW) as channel,
    ):
        stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
        visit = Visit(stub.StreamIntents())
        writing = asyncio.create_task(write_on(visit))
        counts = (-1, -1)
        while counts != (n_written, len(outside.model.behaviors)):
            counts = (n_written, len(outside.model.behaviors))
            await asyncio.sleep(0.5)
        n_answered = len(outside.model.behaviors)
        assert 0 < n_answered < 100
        # 20 kB each: what is written and not read fills the windows of the connection.
        assert n_answered < n_written < 1000
        # It goes on as soon as the client reads.
        for _ in range(n_answered + 10):
            assert (await visit.call.read()).recorded_count == 20
        writing.cancel()
        visit.call.cancel()


async def test_a_client_that_vanishes_without_reading_is_no_fault_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside, address = make_outside(tmp_path), f"unix:{tmp_path}/server"
    async with (
        serving(outside, listen=address) as served,
        grpc.aio.insecure_channel(address, SMALL_WINDOW) as channel,
    ):
        stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
        visit = Visit(stub.StreamIntents())
        for _ in range(100):
            await visit.call.write(request(visitor=ANNA))

        async def is_stuck() -> bool:
            n_answered = len(outside.model.behaviors)
            await asyncio.sleep(0.3)
            return 0 < n_answered == len(outside.model.behaviors) < 100

        await eventually(is_stuck)
        visit.call.cancel()

        async def is_free() -> bool:
            return served.app._streams.n_open == 0

        await eventually(is_free)
        read = served.app._metrics.block.read
        assert sum(read(CALLS, (METHOD.removeprefix("/"), "CANCELLED"))[0]) == 1
    assert "call failed" not in [each.message for each in caplog.records]


async def test_cancelling_frees_everything(served: Served, visit: Visit) -> None:
    served.outside.model.delay_s = 0.9
    await visit.call.write(request(view("p8"), visitor=ANNA))
    await served.outside.model.asked.wait()
    assert served.app._streams.n_open == 1
    visit.call.cancel()
    await served.outside.model.cancelled.wait()

    async def is_free() -> bool:
        admission = served.app._lookout._admission
        return served.app._streams.n_open == 0 and admission._n_calls == 0

    await eventually(is_free)
    assert not served.app._streams._reading


async def test_a_client_that_vanishes_between_two_requests_frees_everything(
    served: Served, visit: Visit
) -> None:
    await visit.ask(view("p8"))
    visit.call.cancel()

    async def is_free() -> bool:
        return served.app._streams.n_open == 0 and not served.app._streams._reading

    await eventually(is_free)


async def test_whatever_fails_before_or_after_it_is_recorded_each_event_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client resumes, and the server knows what it has seen."""
    outside, address = make_outside(tmp_path), f"unix:{tmp_path}/server"
    append, rng = outside.sessions.append, random.Random(3)

    async def unreliable(*arguments: Any, **options: Any) -> Any:
        if rng.random() < 0.2:
            raise StateUnavailable("sessions", "nothing was written")
        appended = await append(*arguments, **options)
        if rng.random() < 0.2:
            raise StateUnavailable("sessions", "it was written")
        return appended

    outside.sessions.append = unreliable  # type: ignore[method-assign]
    monkeypatch.setattr(StateUnavailable, "retry_after_s", 0.001)
    async with (
        serving(outside, listen=address),
        AsyncShopIntentClient(address, insecure=True) as client,
        client.stream_intents("anna", timeout_s=30) as visit,
    ):
        for n in range(60):
            await visit.send([client_events.view_product(f"n-{n}")])
        history = await outside.sessions.recent("visitor:anna")
    assert [event.product_id for event in history.events] == [f"n-{n}" for n in range(60)]


async def test_a_client_that_is_closed_before_its_streams_is_no_trouble(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/server"
    async with serving(make_outside(tmp_path), listen=address):
        client = AsyncShopIntentClient(address, insecure=True)
        visit = client.stream_intents("anna")
        await visit.send([client_events.view_product("p8")])
        await client.close()
        await visit.close()


async def test_idle_streams_keep_nobody_from_being_answered(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path), max_concurrent_rpcs=2) as served:
        visits = [Visit(served.recommendation.StreamIntents()) for _ in range(30)]
        for each in visits:
            await each.ask(view("p8"))
        await served.recommendation.PredictIntent(pb.PredictIntentRequest(visitor=ANNA))
        for each in visits:
            each.call.cancel()


async def test_requests_over_the_limit_are_refused_and_not_recorded(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    async with serving(outside, max_concurrent_rpcs=1) as served, visiting(served) as visit:
        await visit.ask(view("p8"))
        outside.model.delay_s = 0.5
        outside.model.asked.clear()
        taking = asyncio.ensure_future(
            served.recommendation.PredictIntent(pb.PredictIntentRequest())
        )
        await outside.model.asked.wait()
        await visit.call.write(request(view("p9")))
        failure = await visit.failure()
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.info.reason == "ERROR_REASON_OVERLOADED"
        assert failure.retry_delay_s == 0.5
        assert await tracked(served) == ["p8"]
        await taking


async def test_too_many_streams_are_refused(tmp_path: Path) -> None:
    async with (
        serving(make_outside(tmp_path), max_streams=1) as served,
        visiting(served) as visit,
    ):
        await visit.ask(view("p8"))
        async with visiting(served) as another:
            assert (await another.failure()).info.reason == "ERROR_REASON_OVERLOADED"
        await served.recommendation.PredictIntent(pb.PredictIntentRequest(visitor=ANNA))


async def test_each_answer_has_a_token_and_a_request_id_of_its_own(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="shopintent")
    async with visiting(served, metadata=(("x-request-id", "shop-42"),)) as visit:
        tokens = [(await visit.ask(view("p8"))).intent.attribution_token for _ in range(3)]
        decoded = [base64.urlsafe_b64decode(each + "==").decode() for each in tokens]
        assert decoded == ["r1/shop-42.1", "r1/shop-42.2", "r1/shop-42.3"]
        await visit.call.done_writing()
        await visit.call.read()
        assert dict(await visit.call.trailing_metadata())["x-request-id"] == "shop-42"
    (line,) = map(json.loads, await call_lines(caplog, 1))
    assert (line["method"], line["code"], line["request_id"]) == (METHOD, "OK", "shop-42.3")


async def test_a_fault_of_ours_ends_the_call_and_tells_which_request_it_was(
    served: Served, visit: Visit
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret detail")

    await visit.ask(view("p8"))
    served.outside.sessions.append = broken  # type: ignore[method-assign]
    await visit.call.write(request(view("p9")))
    failure = await visit.failure()
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.info.metadata["requestId"].endswith(".2")
    assert "secret" not in failure.message


async def test_streams_and_their_requests_are_counted(served: Served, visit: Visit) -> None:
    metrics = served.app._metrics
    name = METHOD.removeprefix("/")
    before = sum(metrics.block.read(STREAM_REQUEST, ())[0])
    await visit.ask(view("p8"))
    await visit.ask(view("p8"))
    assert metrics.block.read(IN_FLIGHT, (name,))[0] == [1]
    await visit.call.done_writing()
    assert await visit.call.read() is grpc.aio.EOF
    assert sum(metrics.block.read(STREAM_REQUEST, ())[0]) == before + 2
    assert metrics.block.read(IN_FLIGHT, (name,))[0] == [0]
    assert sum(metrics.block.read(CALLS, (name, "OK"))[0]) == 1
