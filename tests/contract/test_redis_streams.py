"""The trainer reads what waits in the Redis of the servers, and takes nothing away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shopintent.behavior import Event
from shopintent.server.pseudonyms import Keyring, PseudonymKey
from shopintent.server.sessions import TrackedEvent
from shopintent.server.sessions.redis import RedisSessions
from shopintent.trainer.data import PrepareError, redis_streams
from shopintent.trainer.data.event_log import prepare_events
from support.redis_server import redis_server

pytestmark = pytest.mark.events

KEYRING = Keyring((PseudonymKey("k1", b"secret of sixteen bytes or more"),))
NOW = int(time.time())


def viewed(number: int) -> TrackedEvent:
    return TrackedEvent(Event("view-product", NOW - 1_000 + number, f"P{number}"), f"e{number}")


async def test_what_waits_in_redis_is_prepared_and_still_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_streams, "AT_ONCE", 3)  # Streams are longer than a page.
    with redis_server(tmp_path / "redis", "--appendfsync", "always") as server:
        url = f"{server.url}/1"
        sessions = RedisSessions.open(url, pseudonyms=KEYRING)
        for number in range(60):
            await sessions.append(f"visitor:{number % 7}", [viewed(number)], timeout_s=10)
        await sessions.append("user:u", [viewed(60)], timeout_s=10, alias="visitor:0")
        waiting = [each for each in await sessions.waiting() if each.shopper]
        for name in ("first", "second"):
            dataset = prepare_events(url, tmp_path / name)
            assert dataset.info.n_events == 61
        assert await sessions.waiting() == waiting
        await sessions.close()
    seen = dataset.events().select("shopper_id", "product_id").collect().group_by("shopper_id")
    products = {shopper: set(rows["product_id"]) for (shopper,), rows in seen}
    expected = {
        KEYRING.pseudonym(f"visitor:{n}"): {f"P{i}" for i in range(60) if i % 7 == n}
        for n in range(1, 7)
    }
    joined = {f"P{i}" for i in range(60) if i % 7 == 0} | {"P60"}
    assert products == {**expected, KEYRING.pseudonym("user:u"): joined}


def test_a_redis_that_holds_no_records_says_so(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "redis") as server,
        pytest.raises(PrepareError, match="no behavior yet"),
    ):
        prepare_events(server.url, tmp_path / "out")


def test_a_redis_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"^redis://127\.0\.0\.1:1/0: cannot be read") as raised:
        prepare_events("redis://:secret@127.0.0.1:1/0", tmp_path / "out")
    assert "secret" not in str(raised.value)
