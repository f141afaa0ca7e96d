"""Two workers, one event log: one of them writes it, and commands work beside both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from shopintent.artifacts import ReleasesRoot
from shopintent.server.keyring_file import read_keyring
from support.event_logs import bytes_of, read_log
from support.server import write_small_release
from support.workers import SERVER, eventually, serving, track

pytestmark = pytest.mark.events


def command(root: Path, *arguments: str) -> tuple[int, Any]:
    """Runs a command beside the server; returns its exit code and what it printed."""
    words = [*SERVER, *arguments, f"--releases={root}", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def writer_of(log: Path) -> int:
    """Returns the process that holds the lock of whoever writes."""
    inode = (log / ".drainer.lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.replace("->", "").split()
        if int(fields[5].rpartition(":")[2]) == inode:
            return int(fields[4])
    return 0


def test_the_log_survives_the_worker_that_writes_it_and_a_visitor_is_deleted_beside_it(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    write_small_release(ReleasesRoot(root))
    log = root / "state" / "event-log"

    def logged() -> list[str]:
        return sorted(each.product_id for each in read_log(log) if each.product_id)

    with serving(root) as (address, _):
        for number in range(4):
            track(address, "", "v-anonymous-0001", f"p{number}")
        track(address, "", "v-somebody-else1", "other")
        track(address, "u-known-00000001", "v-anonymous-0001", "p4")
        assert eventually(lambda: len(logged()) == 6)
        writer = writer_of(log)
        os.kill(writer, signal.SIGKILL)
        track(address, "u-known-00000001", "v-anonymous-0001", "p5")
        assert eventually(lambda: len(logged()) == 7)
        assert writer_of(log) != writer

        code, status = command(root, "events", "status")
        assert (code, status["written"], status["records"]) == (0, True, 8)
        ids = ("--user-id=u-known-00000001", "--visitor-id=v-anonymous-0001")
        code, found = command(root, "visitors", "verify", *ids)
        assert (code, found["deleted"]) == (1, False)
        code, receipt = command(root, "visitors", "delete", "--user-id=u-known-00000001")
        assert code == 0
        counts = {each["store"]: each["count"] for each in receipt["stores"]}
        assert counts["event-log"] == 7
        assert counts["sessions"] == 6
        code, found = command(root, "visitors", "verify", *ids)
        assert (code, found["deleted"]) == (0, True)
        assert command(root, "events", "rotate-key") == (0, {"key_id": "k2"})
        time.sleep(2.5)  # Servers look every 2 seconds.
        track(address, "", "v-somebody-else1", "again")
        assert eventually(lambda: logged() == ["again", "other"])
    keyring = read_keyring(root / "state" / "pseudonym-keys.json")
    assert {each.shopper[:3] for each in read_log(log)} == {"k1-", "k2-"}
    content = bytes_of(root / "state")
    for key in ("user:u-known-00000001", "visitor:v-anonymous-0001"):
        assert key.partition(":")[2].encode() not in content
        assert not any(name.encode() in content for name in keyring.pseudonyms(key))
