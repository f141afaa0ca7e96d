"""The tokens of a history are computed once, and again as soon as they may be others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shopintent.behavior import Event
from shopintent.behavior.events import SEARCH, VIEW_PRODUCT
from shopintent.server.hydrate import Degraded, Hydrator
from shopintent.server.releases import ReleaseMonitor
from shopintent.server.sessions import EMPTY_HISTORY, History
from support.server import Outside, make_outside

SEEN = Event(VIEW_PRODUCT, 1_000, product_id="p8")
UNSEEN = Event(VIEW_PRODUCT, 2_000, product_id="p35")
SEARCHED = Event(SEARCH, 3_000, search_query="red chair")


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return make_outside(tmp_path)


@pytest.fixture
def hydrator(outside: Outside) -> Hydrator:
    return Hydrator(
        tokenizer=outside.release.tokenizer,
        index=outside.index,
        encoder=outside.encoder,
        monitor=ReleaseMonitor({}),
    )


@pytest.mark.parametrize("events", [(), (SEEN,), (SEEN, UNSEEN, SEARCHED)])
async def test_the_same_history_is_encoded_once(
    hydrator: Hydrator, outside: Outside, events: tuple[Event, ...]
) -> None:
    history = History(events)
    first = await hydrator.hydrate(history, timeout_s=1)
    outside.index.down = outside.encoder.down = True
    assert await hydrator.hydrate(history, timeout_s=1) is first
    assert len(first.behavior) == len(events)
    assert first.newest_event_time == (events[-1].event_time if events else 0)
    assert not first.degraded


async def test_what_is_alike_is_not_the_same(hydrator: Hydrator) -> None:
    first = await hydrator.hydrate(History((SEEN,)), timeout_s=1)
    assert await hydrator.hydrate(History((SEEN,)), timeout_s=1) is not first
    assert len((await hydrator.hydrate(EMPTY_HISTORY, timeout_s=1)).behavior) == 0


async def test_a_written_product_is_read_again(hydrator: Hydrator, outside: Outside) -> None:
    history = History((UNSEEN,))
    before = await hydrator.hydrate(history, timeout_s=1)
    del outside.index.products["p35"]
    hydrator.forget(["p35"])
    after = await hydrator.hydrate(history, timeout_s=1)
    assert before.behavior.tokens[0, 2:-1].any()
    assert not after.behavior.tokens[0, 2:-1].any()


async def test_tokens_are_made_again_when_they_are_as_old_as_a_product_may_be(
    hydrator: Hydrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History((UNSEEN,))
    first = await hydrator.hydrate(history, timeout_s=1)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 59)
    assert await hydrator.hydrate(history, timeout_s=1) is first
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert await hydrator.hydrate(history, timeout_s=1) is not first


@pytest.mark.parametrize(
    ("event", "reason"),
    [(UNSEEN, Degraded.INDEX_UNAVAILABLE), (SEARCHED, Degraded.TEXT_ENCODER_UNAVAILABLE)],
)
async def test_what_had_to_leave_something_out_is_tried_again(
    hydrator: Hydrator, outside: Outside, event: Event, reason: Degraded
) -> None:
    history = History((SEEN, event))
    outside.index.down = outside.encoder.down = True
    assert (await hydrator.hydrate(history, timeout_s=1)).degraded == {reason}
    outside.index.down = outside.encoder.down = False
    assert not (await hydrator.hydrate(history, timeout_s=1)).degraded


async def test_tokens_go_with_the_history(hydrator: Hydrator) -> None:
    history = History((SEEN,))
    await hydrator.hydrate(history, timeout_s=1)
    assert len(hydrator._held) == 1
    del history
    assert len(hydrator._held) == 0


async def test_only_the_newest_events_are_read(hydrator: Hydrator, outside: Outside) -> None:
    most = outside.release.tokenizer.max_events
    events = [Event(VIEW_PRODUCT, at, product_id="p8") for at in range(3 * most)]
    hydrated = await hydrator.hydrate(History(tuple(reversed(events))), timeout_s=1)
    assert hydrated.behavior.event_times.tolist() == list(range(2 * most, 3 * most))
