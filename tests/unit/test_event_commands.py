"""`shopintent-server events` and `visitors`: what each command changes, prints and exits with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shopintent.artifacts.event_log import compacted, segments
from shopintent.server.__main__ import main
from shopintent.server.event_log.files import DRAINER_LOCK, try_lock
from shopintent.server.event_log.segments import SegmentWriter
from shopintent.server.keyring_file import ensure_keyring, read_keyring
from support.event_logs import record, sequences

pytestmark = pytest.mark.events


@dataclass
class State:
    """A state folder with a log of a record in each of two keys, long ago."""

    path: Path
    capsys: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    @property
    def log(self) -> Path:
        return self.path / "event-log"

    @property
    def keys(self) -> Path:
        return self.path / "pseudonym-keys.json"

    def run(self, *arguments: str) -> int:
        """Runs a command and returns its exit code; what it printed is in `out` and `err`."""
        code = main([*arguments, "--state-path", str(self.path)])
        self.out, self.err = self.capsys.readouterr()
        return code

    def json(self, *arguments: str) -> Any:
        assert self.run(*arguments, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> State:
    state = State(tmp_path, capsys)
    ensure_keyring(state.keys)
    state.log.mkdir()
    SegmentWriter(state.log).append([record(1, "k1-aa"), record(2, "k1-bb")])
    return state


def test_status_tells_what_each_day_has_and_which_keys_name_shoppers(state: State) -> None:
    data = state.json("events", "status")
    assert data["records"] == 2
    assert data["records_by_key"] == {"k1": 2}
    assert data["days"]["2025-11-24"]["segments"] == 1
    assert data["written"] is False
    assert state.run("events", "status") == 0
    assert "2 records" in state.out
    assert "no server writes to it now" in state.out
    assert state.out.splitlines()[-1].split() == ["k1", "2"]


def test_status_tells_of_keys_that_are_lost_and_of_a_server_that_writes(state: State) -> None:
    SegmentWriter(state.log).append([record(3, "k7-aa")])
    lock = try_lock(state.log / DRAINER_LOCK)
    assert lock is not None
    with lock:
        assert state.run("events", "status") == 0
    assert "k7 (not in the ring)" in state.out
    assert "a server writes to it" in state.out


def test_compact_does_now_what_servers_do_at_night(state: State) -> None:
    data = state.json("events", "compact", "--event-log-days", "10000")
    assert data == {"compacted_records": 2}
    assert len(compacted(state.log)) == 1
    assert not segments(state.log)
    assert sequences(state.log) == [1, 2]


def test_compact_does_not_take_no_log_for_no_retention(state: State) -> None:
    assert state.run("events", "compact", "--event-log-days", "0") == 1
    assert "every day but today would be removed" in state.err
    assert sequences(state.log) == [1, 2]


def test_a_key_is_rotated_and_retired_once_it_names_nobody(state: State) -> None:
    assert state.json("events", "rotate-key") == {"key_id": "k2"}
    assert state.run("events", "retire-key", "k1") == 1
    assert "2 records still name shoppers with k1" in state.err
    assert state.run("events", "compact", "--event-log-days", "1") == 0  # Past retention.
    assert state.run("events", "retire-key", "k1") == 0
    assert [key.key_id for key in read_keyring(state.keys).keys] == ["k2"]


def test_a_log_that_is_not_there_is_told_with_the_remedy(tmp_path: Path, state: State) -> None:
    assert state.run("events", "status", "--event-log", str(tmp_path / "elsewhere")) == 1
    assert "name it with --event-log" in state.err


def test_a_visitor_is_deleted_and_found_no_more(state: State) -> None:
    keyring = read_keyring(state.keys)
    SegmentWriter(state.log).append(
        [record(3, keyring.pseudonym("user:4711")), record(4, keyring.pseudonym("visitor:v"))]
    )
    ids = ["--user-id", "4711", "--visitor-id", "v"]
    assert state.run("visitors", "verify", *ids) == 1
    assert "the visitor was found" in state.out
    receipt = state.json("visitors", "delete", *ids)
    counts = {each["store"]: each["count"] for each in receipt["stores"]}
    assert counts == {"sessions": 0, "event-log": 2, "counters": 0}
    assert state.json("visitors", "verify", *ids)["deleted"] is True
    assert sequences(state.log) == [1, 2]


def test_a_log_whose_keys_are_lost_is_not_gone_on_with_under_other_keys(state: State) -> None:
    state.keys.unlink()
    assert state.run("visitors", "delete", "--user-id", "4711") == 2
    assert "restore it" in state.err
    assert not state.keys.exists()


def test_a_visitor_must_be_named(state: State) -> None:
    assert state.run("visitors", "delete") == 2
    assert "name the visitor" in state.err


def test_sessions_in_the_memory_of_a_server_are_out_of_reach(state: State) -> None:
    assert state.run("visitors", "delete", "--user-id", "u", "--sessions", "memory") == 2
    assert "ask it with VisitorService" in state.err
