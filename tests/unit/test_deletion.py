"""A visitor is deleted from every store, the log last, under every name they have there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from shopintent.server.deletion import StoreCount, VisitorEraser
from shopintent.server.event_log import EventLog
from shopintent.server.event_log.segments import SegmentWriter
from shopintent.server.pseudonyms import Keyring, PseudonymKey
from shopintent.server.sessions import Deleted
from support.event_logs import bytes_of, login, read_log, record

pytestmark = pytest.mark.events

KEYRING = Keyring((PseudonymKey("k2", b"2" * 32), PseudonymKey("k1", b"1" * 32)))
ANN, PHONE, BOB = "user:ann", "visitor:0c0ffee0-phone-of-ann", "user:bob"


class JoinedSessions:
    """Sessions that know Ann's phone, and write down what is asked of them."""

    def __init__(self, said: list[str]) -> None:
        self.said = said
        self.held = {ANN: 3, PHONE: 0}

    async def delete(self, visitor: str, *, timeout_s: float) -> Deleted:
        self.said.append(f"delete {visitor}")
        visitors = (ANN, PHONE) if visitor in self.held else ()
        return Deleted(visitors, sum(self.held.pop(each, 0) for each in visitors), 1)

    async def find(self, visitor: str, *, timeout_s: float) -> Deleted:
        return Deleted((ANN,), self.held.get(visitor, 0), 1 if self.held else 0)


class ListeningLog(EventLog):
    def __init__(self, folder: Path, said: list[str]) -> None:
        super().__init__(folder)
        self.said = said

    async def delete(self, pseudonyms: Collection[str]) -> int:
        self.said.append("log")
        return await super().delete(pseudonyms)


def write_log(folder: Path) -> None:
    old, new = KEYRING.keys[1], KEYRING.keys[0]
    SegmentWriter(folder).append(
        [
            record(1, old.pseudonym(PHONE)),
            record(2, new.pseudonym(PHONE)),
            login(3, new.pseudonym(ANN), new.pseudonym(PHONE)),
            record(4, new.pseudonym(ANN)),
            record(5, new.pseudonym(BOB)),
        ]
    )


def eraser(folder: Path, said: list[str]) -> VisitorEraser:
    sessions = JoinedSessions(said)
    return VisitorEraser(sessions, KEYRING, ListeningLog(folder, said), clock=lambda: 12.5)  # type: ignore[arg-type]


async def test_every_name_of_a_visitor_goes_from_every_store(tmp_path: Path) -> None:
    write_log(tmp_path)
    said: list[str] = []
    receipt = await eraser(tmp_path, said).delete([ANN], timeout_s=1)
    assert receipt.stores == (
        StoreCount("sessions", "events", 3),
        StoreCount("event-log", "records", 4),
        StoreCount("counters", "events", 3),
    )
    assert receipt.delete_time == 12.5
    assert len(receipt.receipt_id) == 32
    assert said == ["delete user:ann", "log"]
    assert [each.sequence for each in read_log(tmp_path)] == [5]
    content = bytes_of(tmp_path)
    for name in (*KEYRING.pseudonyms(ANN), *KEYRING.pseudonyms(PHONE)):
        assert name.encode() not in content


async def test_a_repeated_deletion_finds_nothing_and_says_so(tmp_path: Path) -> None:
    write_log(tmp_path)
    erases = eraser(tmp_path, [])
    first = await erases.delete([ANN, PHONE], timeout_s=1)
    again = await erases.delete([ANN, PHONE], timeout_s=1)
    assert [each.count for each in again.stores] == [0, 0, 0]
    assert again.receipt_id != first.receipt_id


async def test_verification_sees_what_is_left_in_either_store(tmp_path: Path) -> None:
    write_log(tmp_path)
    erases = eraser(tmp_path, [])
    before = {each.store: each.count for each in await erases.verify([ANN], timeout_s=1)}
    assert before == {"sessions": 4, "event-log": 2, "counters": 0}
    await erases.delete([ANN, PHONE], timeout_s=1)
    assert [each.count for each in await erases.verify([ANN, PHONE], timeout_s=1)] == [0, 0, 0]


async def test_verification_finds_a_raw_id_that_should_never_have_come_there(
    tmp_path: Path,
) -> None:
    write_log(tmp_path)
    erases = eraser(tmp_path, [])
    await erases.delete([ANN, PHONE], timeout_s=1)
    (tmp_path / "segments" / "x").write_text("somebody wrote 0c0ffee0-phone-of-ann")
    found = {each.store: each.count for each in await erases.verify([PHONE], timeout_s=1)}
    assert found["event-log"] == 1


async def test_a_short_id_is_not_found_by_chance(tmp_path: Path) -> None:
    """A number of two digits stands somewhere among the times of every log."""
    write_log(tmp_path)
    found = await eraser(tmp_path, []).verify(["user:17"], timeout_s=1)
    assert sum(each.count for each in found if each.store == "event-log") == 0


async def test_a_server_without_a_log_deletes_from_its_sessions(tmp_path: Path) -> None:
    sessions = JoinedSessions([])
    erases = VisitorEraser(sessions, KEYRING, None)  # type: ignore[arg-type]
    receipt = await erases.delete([ANN], timeout_s=1)
    assert [each.count for each in receipt.stores] == [3, 0, 3]
    assert (await erases.verify([ANN], timeout_s=1))[1].count == 0
