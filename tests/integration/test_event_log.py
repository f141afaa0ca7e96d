"""Sessions, event log and deletion together: what is tracked is logged once, and goes for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shopintent.artifacts.event_log import IMPRESSION, LOGIN
from shopintent.behavior import Event
from shopintent.server.deletion import VisitorEraser
from shopintent.server.event_log import EventLog
from shopintent.server.event_log.draining import LogDrainer
from shopintent.server.event_log.files import no_progress
from shopintent.server.event_log.upkeep import keep_up
from shopintent.server.keyring_file import FollowedKeyring, rotate
from shopintent.server.sessions import TrackedEvent
from shopintent.server.sessions.redis import RedisSessions
from shopintent.server.sessions.sqlite import SqliteSessions
from support.event_logs import KEPT_DAYS, NoCounts, bytes_of, read_log
from support.redis_server import redis_server, skip_unless_installed

pytestmark = pytest.mark.events

USER, PHONE, TABLET = "user:u-7d1b0c5e4f", "visitor:v-91aa02cd7b", "visitor:v-55fe8831c0"
OTHER = "visitor:v-0000other0"
DAY_S = 86_400.0


@dataclass
class Shop:
    """Stores in a folder whose clock can be put forward."""

    folder: Path
    redis_url: str = ""
    """Empty for sessions in SQLite."""
    now: float = 1_764_000_000.0
    n_events: int = 0

    def __post_init__(self) -> None:
        self.keys = self.folder / "pseudonym-keys.json"
        self.pseudonyms = FollowedKeyring(self.keys, look_s=0.0)
        self.log = EventLog(self.folder / "event-log")
        self.sessions = self._open()
        self.eraser = VisitorEraser(
            self.sessions, self.pseudonyms, self.log, clock=lambda: self.now
        )

    def _open(self) -> SqliteSessions | RedisSessions:
        if self.redis_url:
            return RedisSessions.open(
                self.redis_url,
                survives_power_loss=False,
                pseudonyms=self.pseudonyms,
                clock=lambda: self.now,
            )
        return SqliteSessions.open(
            self.folder / "sessions.sqlite", pseudonyms=self.pseudonyms, clock=lambda: self.now
        )

    async def track(self, visitor: str, *, alias: str = "") -> None:
        """Tracks a view and an impression."""
        self.n_events += 1
        at = int(self.now)
        view = TrackedEvent(Event("view-product", at, product_id="p1"), f"e{self.n_events}")
        shown = TrackedEvent(
            Event(IMPRESSION, at), f"i{self.n_events}", shown_product_ids=("p1", "p2")
        )
        await self.sessions.append(visitor, [view, shown], timeout_s=5, alias=alias)

    @asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        """Has what is tracked written to the log."""
        drainer = LogDrainer(self.log, self.sessions, NoCounts(), kept_days=10_000, poll_s=0.01)
        drainer.start()
        try:
            yield
        finally:
            await drainer.close()


@pytest.fixture(params=["sqlite", "redis"])
async def shop(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    with ExitStack() as stack:
        url = ""
        if request.param == "redis":
            skip_unless_installed()
            # Compressed, its files could not be searched byte by byte.
            settings = ("--appendonly", "yes", "--rdbcompression", "no")
            url = stack.enter_context(redis_server(tmp_path / "redis", *settings)).url
        shop = Shop(tmp_path, url)
        yield shop
        await shop.sessions.close()


async def test_what_is_tracked_is_logged_once_under_pseudonyms(shop: Shop) -> None:
    async with shop.draining():
        await shop.track(PHONE)
        await shop.track(USER, alias=PHONE)
    async with shop.draining():
        await shop.track(OTHER)
    records = read_log(shop.log.folder)
    named = {shop.pseudonyms.pseudonym(each): each for each in (USER, PHONE, OTHER)}
    assert [named[each.shopper] for each in records if each.event_type == "view-product"] == [
        PHONE, USER, OTHER,
    ]  # fmt: skip
    [login] = [each for each in records if each.event_type == LOGIN]
    assert (named[login.shopper], named[login.alias]) == (USER, PHONE)
    shown = [each.shown_product_ids for each in records if each.event_type == IMPRESSION]
    assert shown == [("p1", "p2")] * 3
    assert len({(each.source, each.sequence) for each in records}) == len(records) == 7


@pytest.mark.parametrize("named", [USER, PHONE])
async def test_nothing_of_a_deleted_shopper_is_left_in_any_byte(shop: Shop, named: str) -> None:
    """They logged in on two devices, under two keys, in days that were compacted, and today."""
    async with shop.draining():
        await shop.track(PHONE)
        await shop.track(OTHER)
        await shop.track(USER, alias=PHONE)
        await asyncio.sleep(0.1)
        shop.now += DAY_S
        await shop.track(TABLET)
        rotate(shop.keys)
        await shop.track(USER, alias=TABLET)
        await asyncio.sleep(0.1)
        # In a thread: it waits for the drainer, which is of this one.
        await asyncio.to_thread(keep_up, shop.log.folder, KEPT_DAYS, shop.now, no_progress)
        await shop.track(USER)
        await shop.track(OTHER)
        await asyncio.sleep(0.1)
        await shop.track(USER)  # May wait for the log still when the deletion begins.
        receipt = await shop.eraser.delete([named], timeout_s=10)
        await shop.track(OTHER)
    assert all(each.count > 0 for each in receipt.stores)
    content = bytes_of(shop.folder)
    for visitor in (USER, PHONE, TABLET):
        for trace in (visitor.partition(":")[2], *shop.pseudonyms.pseudonyms(visitor)):
            assert trace.encode() not in content
    assert not any(each.count for each in await shop.eraser.verify([USER, PHONE], timeout_s=10))
    left = {each.shopper for each in read_log(shop.log.folder)}
    assert left == set(shop.pseudonyms.pseudonyms(OTHER))
    assert len(read_log(shop.log.folder)) == 6


async def test_a_deletion_while_the_shopper_still_clicks_leaves_only_what_came_later(
    shop: Shop,
) -> None:
    done = asyncio.Event()

    async def click() -> None:
        while not done.is_set():
            shop.now += 1
            await shop.track(USER)
            await shop.track(OTHER)
            await asyncio.sleep(0.002)

    async with shop.draining():
        clicking = asyncio.create_task(click())
        await asyncio.sleep(0.5)
        receipt = await shop.eraser.delete([USER], timeout_s=10)
        done.set()
        await clicking
    records = read_log(shop.log.folder)
    others = [each for each in records if each.shopper == shop.pseudonyms.pseudonym(OTHER)]
    assert len(others) == shop.n_events
    of_user = [each for each in records if each.shopper == shop.pseudonyms.pseudonym(USER)]
    assert all(each.event_time >= receipt.delete_time for each in of_user)
    assert len(of_user) < shop.n_events


async def test_a_burst_is_logged_whole(shop: Shop) -> None:
    async with shop.draining():
        await asyncio.gather(*(shop.track(f"visitor:{each}") for each in range(500)))
    records = read_log(shop.log.folder)
    assert len({each.sequence for each in records}) == len(records) == 1_000
