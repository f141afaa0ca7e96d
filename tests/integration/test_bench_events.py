"""`python -m deploy.bench.events` on a tiny release: it starts, measures, judges and writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.bench.events.options import STORES
from deploy.demo.processes import clean_environment
from deploy.triton.parent import ending_with_this_process
from support.trained import Trained

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--quick", "--seconds=0.4", "--visitors=16", "--events=4", "--trials=16", "--in-flight=4"]

pytestmark = [
    pytest.mark.events,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("h2load") is None, reason="needs h2load (Debian package nghttp2-client)"
    ),
]


def test_every_store_is_measured_and_no_answer_is_stale(trained: Trained, tmp_path: Path) -> None:
    given = [*SMALL, "--at-once", "1", "4", f"--release={trained.releases.path}"]
    line = [sys.executable, "-m", "deploy.bench.events", *given, f"--out={tmp_path}"]
    done = subprocess.run(
        ending_with_this_process(line),
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "events.json").read_text(encoding="utf-8"))
    stores = {each for each in STORES if each != "redis" or shutil.which("redis-server")}
    assert {(row["store"], row["what"]) for row in found["rows"]} == {
        (store, what) for store in stores for what in ("predict_intent", "track_1", "track_10")
    }
    assert all((row["failed"], row["wrong"]) == (0, 0) for row in found["rows"])
    assert {(row["store"], row["what"], row["at_once"]) for row in found["fresh"]} == {
        (store, what, n) for store in stores for what in ("freshness", "stream") for n in (1, 4)
    }
    for row in found["fresh"]:
        assert row["trials"] == 16
        assert row["stale"] == 0
        assert row["undecidable"] < 16
    assert "| track_1 | memory | 4 |" in (tmp_path / "events.md").read_text(encoding="utf-8")
    assert (tmp_path / "events.png").stat().st_size > 0
