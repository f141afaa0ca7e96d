"""The comparison with peers: what is sent, what is right, its arithmetic, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from deploy.bench.load import Load, LoadError, json_target
from deploy.bench.measured import Measured
from deploy.bench.peers import environments, report, results
from deploy.bench.peers.behaviors import WITH_EVENTS, difference, said, with_events_target
from deploy.bench.peers.compare import Cell, cpu_ms_of_a_call, settle
from deploy.bench.peers.options import parse
from deploy.bench.peers.peers import PEERS, by_name, told
from deploy.bench.peers.processor import cpu_s
from deploy.bench.verify import WrongAnswer
from deploy.bench.visitors import Visitor
from shopintent.behavior.events import VIEW_CATEGORY, VIEW_PRODUCT, Event
from shopintent.v1.recommendation_service_pb2 import PredictIntentRequest

ROOT = Path(__file__).resolve().parents[2]
ANSWER = {
    "next_actions": [
        {"action": "leave", "probability": 0.75},
        {"action": "view-product", "probability": 0.25},
    ],
    "purchases": [{"horizon_s": 3600, "probability": 0.125}],
    "expected_quantity": 2.0,
    "release_id": "r1",
}
RIGHT = {
    "view-product": 0.25,
    "leave": 0.75,
    "purchase within 3600 s": 0.125,
    "expected_quantity": 2.0,
}
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
time.sleep(float(sys.argv[2]))
sys.exit(3)
"""


def measured(rps: float, **changes: Any) -> Measured:
    one = Measured(rps, p50_ms=1.0, p99_ms=2.0, n_answers=10, n_failed=0, offered_rps=rps)
    return replace(one, **changes)


CELLS = {
    Cell("predict_intent", 64): [measured(1000.0), measured(1100.0), measured(1200.0)],
    Cell("predict_intent", 1): [measured(100.0)],
    Cell("fastapi", 64): [measured(100.0), measured(200.0), measured(400.0)],
    Cell("bentoml", 64): [measured(300.0), measured(250.0, n_failed=2), measured(200.0)],
    Cell("fastapi", 1): [measured(50.0)],
}

CPU_MS = {cell: [3.0, 1.0, 2.0] for cell in (*CELLS, Cell("bentoml", 1))}


def test_a_row_is_the_median_of_the_rounds_and_tells_their_spread() -> None:
    rows = {(row.target, row.in_flight): row for row in results.rows(CELLS, CPU_MS)}
    assert rows["predict_intent", 64].rps == 1100.0
    assert rows["predict_intent", 64].spread == round(200 / 1100, 3)
    assert rows["predict_intent", 64].cpu_ms == 2.0
    assert rows["bentoml", 64].failed == 2
    assert [row.in_flight for row in results.rows(CELLS, CPU_MS)] == [1, 1, 64, 64, 64]


def test_the_best_peer_is_the_one_that_answers_most_in_that_load() -> None:
    assert results.best_peer(CELLS, ["fastapi", "bentoml"], 64) == "bentoml"
    assert results.best_peer(CELLS, ["fastapi", "bentoml"], 1) == "fastapi"
    assert results.best_peer(CELLS, ["fastapi"], 16) is None


def test_ratios_compare_within_rounds() -> None:
    ratios = results.ratios(CELLS, ["fastapi", "bentoml"])
    assert ratios["predict_intent_vs_fastapi_at_64"] == {
        "median": 5.5,
        "smallest": 3.0,
        "largest": 10.0,
    }
    assert ratios["predict_intent_vs_best_peer_at_64"]["median"] == 4.4
    assert ratios["predict_intent_vs_best_peer_at_1"]["median"] == 2.0
    assert not any(WITH_EVENTS in name for name in ratios)


def test_an_answer_is_right_whatever_the_order_of_its_actions() -> None:
    assert difference("a peer", said(ANSWER), RIGHT) == 0.0


@pytest.mark.parametrize(
    "changed", [{"leave": 0.7502}, {"expected_quantity": 2.001}, {"leave": float("nan")}]
)
def test_an_answer_that_is_off_is_wrong(changed: dict[str, float]) -> None:
    with pytest.raises(WrongAnswer, match="a peer differs from onnxruntime"):
        difference("a peer", said(ANSWER), RIGHT | changed)


def test_an_answer_that_leaves_something_out_is_wrong() -> None:
    with pytest.raises(WrongAnswer, match="expected_quantity"):
        difference("a peer", said(ANSWER | {"purchases": []}), RIGHT)


def test_events_in_the_request_make_messages_of_one_length_under_ids_nobody_has() -> None:
    def visitor(number: int, category: str) -> Visitor:
        events = (
            Event(VIEW_CATEGORY, 1_700_000_000, category=category),
            Event(VIEW_PRODUCT, 1_700_000_060, product_id="p1"),
        )
        return Visitor(f"bench-{number}", events)

    visitors = [visitor(number, "shoes" + " > boots" * (number % 4)) for number in range(40)]
    target = with_events_target("127.0.0.1:1", visitors)
    assert len(target.bodies) == len(visitors)
    assert len({len(body) for body in target.bodies}) == 1
    requests = [PredictIntentRequest.FromString(body[5:]) for body in target.bodies]
    ids = [request.visitor.visitor_id for request in requests]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {each.visitor_id for each in visitors}
    assert [len(request.recent_events) for request in requests] == [2] * len(visitors)


def test_the_processor_time_of_a_call_is_shared_by_those_of_the_warm_up() -> None:
    load = Load(64, duration_s=3.0, warm_up_s=1.0)
    assert cpu_ms_of_a_call(2.0, measured(500.0), load) == 1.0


def test_processor_time_counts_processes_below() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True); input()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    command = [sys.executable, "-c", start]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert cpu_s(process.pid) >= 0.5
        process.stdin.close()


def test_a_server_settles_when_it_gets_no_faster() -> None:
    rates = iter([10.0, 100.0, 105.0, 1_000.0])
    settle(json_target("t", "http://t", [b"{}"]), 64, lambda target, load: measured(next(rates)))
    assert next(rates) == 1_000.0


def test_a_server_that_answers_no_load_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(target: object, load: Load) -> Measured:
        raise LoadError("nothing was answered")

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(LoadError, match="t at http://t answers no load"):
        settle(json_target("t", "http://t", [b"{}"]), 64, nothing)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_started_with_its_settings_and_pinned_wholly(peer: Any) -> None:
    for settings in peer.settings:
        assert not any("{" in each for each in peer.command("python", 8080, settings))
        assert told(settings).startswith("workers ")
    lines = environments.requirements_of(peer).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"==[^,*]+", str(pin.specifier)) for pin in pins)
    assert {peer.package, "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools"} <= {
        pin.name for pin in pins
    }


def test_all_peers_run_the_same_onnxruntime() -> None:
    texts = [environments.requirements_of(peer).read_text(encoding="utf-8") for peer in PEERS]
    assert len({re.search(r"^onnxruntime==.*$", text, re.M)[0] for text in texts}) == 1  # type: ignore[index]


def test_a_peer_that_takes_lists_is_asked_with_one_behavior() -> None:
    assert by_name("bentoml").request({"events": []}) == {"behaviors": [{"events": []}]}
    assert by_name("bentoml").answer([ANSWER]) == ANSWER
    assert by_name("fastapi").request({"events": []}) == {"events": []}


def test_an_environment_of_other_requirements_is_not_used(tmp_path: Path) -> None:
    peer = by_name("fastapi")
    ready = tmp_path / peer.name / "ready"
    ready.parent.mkdir()
    ready.write_text(environments.made_from(peer), encoding="utf-8")
    assert environments.python_of(peer, tmp_path) == tmp_path / "fastapi" / "bin" / "python"
    ready.write_text("of another day", encoding="utf-8")
    with pytest.raises(environments.NotSetUp, match="--set-up"):
        environments.python_of(peer, tmp_path)


def test_nothing_of_the_peers_is_a_requirement_of_the_product() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[build-system]")[-1]
    declared = pyproject.split("[tool.")[0]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for peer in PEERS:
        assert peer.package not in declared
        assert not re.search(rf"^{peer.package}==", lock, re.M)


def test_the_report_tells_the_ratio_that_was_asked_for() -> None:
    cells = {**CELLS, Cell("bentoml", 1): [measured(10.0)]}
    ratios = results.ratios(cells, ["fastapi", "bentoml"])
    peers = {
        name: {
            "title": name,
            "version": "1",
            "settings": "workers 2",
            "tried_rps_at_64": {"workers 1": 50.0, "workers 2": 100.0},
        }
        for name in ("fastapi", "bentoml")
    }
    found: dict[str, Any] = {
        "command": "python -m deploy.bench.peers",
        "commit": "abc",
        "machine": {"cpu": "a CPU", "cores": 2, "memory_gb": 8},
        **{"events": 20, "visitors": 10, "rounds": 3, "seconds": 1.0},
        "rows": [vars(row) for row in results.rows(cells, CPU_MS)],
        "ratios_of_rounds": ratios,
        "peers": peers,
        "differences": {"fastapi": 1e-6},
        "memory_mb": {"predict_intent": 500.0},
    }
    found = json.loads(json.dumps(found))
    text = report.markdown(found)
    assert "`predict_intent_vs_best_peer_at_64`: **4.40** (3.33 to 6.00), goal" in text
    assert "| shopintent | 100 | 1,100 |" in text
    assert "fastapi 1: workers 2, the best of workers 1: 50/s; workers 2: 100/s" in text
    assert "Calls that failed: {'bentoml': 2}." in text
    report.show(Console(quiet=True), found)


def test_one_peer_may_be_chosen() -> None:
    options = parse(["--only", "litserve", "--quick"])
    assert [peer.name for peer in options.peers] == ["litserve"]
    assert (options.rounds, options.seconds) == (1, 1.0)
    assert [peer.name for peer in parse([]).peers] == [peer.name for peer in PEERS]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def reaped(*command: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "deploy.bench.peers.reaper", *command]
    return subprocess.Popen(line, cwd=ROOT, start_new_session=True)


def written_pid(file: Path) -> int:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(file.read_text())


def test_a_daemon_ends_with_the_command_that_started_it(tmp_path: Path) -> None:
    process = reaped(sys.executable, "-c", DAEMON, str(tmp_path / "pid"), "0")
    daemon = written_pid(tmp_path / "pid")
    assert process.wait(30) == 3
    assert not is_running(daemon)


def test_a_daemon_ends_when_the_reaper_is_told_to(tmp_path: Path) -> None:
    process = reaped(sys.executable, "-c", DAEMON, str(tmp_path / "pid"), "600")
    daemon = written_pid(tmp_path / "pid")
    assert is_running(daemon)
    os.kill(process.pid, signal.SIGTERM)
    process.wait(30)
    assert not is_running(daemon)
