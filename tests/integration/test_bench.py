"""`python -m deploy.bench` on a tiny release: it starts, verifies, measures and writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.processes import clean_environment
from deploy.triton.parent import ending_with_this_process
from support.trained import Trained

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--products=300", "--in-flight", "1", "64", "--visitors=20", "--events=8", "--growth=4"]
SHORT = ["--quick", "--seconds=0.4"]

pytestmark = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="needs h2load (Debian package nghttp2-client)"
)


def bench(releases: Path, out: Path) -> dict[str, Any]:
    """Runs the bench and returns what it wrote; it must succeed."""
    line = [sys.executable, "-m", "deploy.bench", *SHORT, *SMALL]
    done = subprocess.run(
        ending_with_this_process([*line, f"--release={releases}", f"--out={out}"]),
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads((out / "serving.json").read_text(encoding="utf-8"))
    return found


def test_a_bench_writes_every_figure_that_was_asked_for(trained: Trained, tmp_path: Path) -> None:
    found = bench(trained.releases.path, tmp_path)
    cells = {(row["target"], row["in_flight"], row["products"]) for row in found["rows"]}
    assert cells == {
        (target, in_flight, products)
        for target, products in (
            *(("triton", 0), ("health", 0)),
            *(("predict_intent", 300), ("recommend", 300)),
        )
        for in_flight in (1, 64)
    }
    for row in found["rows"]:
        assert row["rps"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["spread"] >= 0
        assert (row["failed"], row["wrong"]) == (0, 0)
    assert {
        "predict_intent_vs_triton_at_64",
        "predict_intent_added_p50_ms_at_1",
        "recommend_vs_predict_intent_at_64",
        "recommend_p99_ms_half_peak_300",
    } <= found["ratios"].keys()
    assert found["parts_at_1"]["the model, asked directly"]["median"] > 0
    assert {"model", "index", "call"} <= found["stages"]["recommend_at_1"].keys()
    assert {row["target"] for row in found["overload"]} == {"predict_intent", "recommend"}
    assert {row["events"] for row in found["growth"]} == {4}
    assert found["memory_mb"]["at_the_end"]["server_300"] > 0
    assert found["machine"]["cores"] > 0
    assert found["commit"]
    assert "| recommend | 300 | 64 |" in (tmp_path / "serving.md").read_text(encoding="utf-8")
    assert (tmp_path / "serving.png").stat().st_size > 0
