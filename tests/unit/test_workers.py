"""`serve --workers N`: one port, one ready file, one page of metrics, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shopintent.artifacts import ReleasesRoot
from shopintent.server.config import Config, ConfigError
from shopintent.server.workers import reserve_port
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1 import recommendation_service_pb2_grpc
from support.server import write_small_release

PATIENCE_S = 60.0


class Server:
    """A running server of two workers, without Triton: it answers that the model is down."""

    def __init__(self, popen: subprocess.Popen[str], log: Path, ready: dict[str, str]) -> None:
        self.popen, self._log = popen, log
        self.address, self.metrics_address = ready["address"], ready["metrics_address"]

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Returns the log lines with a message."""
        lines = map(json.loads, self._log.read_text().splitlines())
        return [line for line in lines if line["message"] == message]

    def workers(self) -> list[int]:
        """Returns the process ids of its workers."""
        return children(self.popen.pid)

    def metrics(self) -> dict[str, float]:
        """Returns the sum of each metric's samples."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics") as page:
            text = page.read().decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def call(self) -> str:
        """Makes a call over a connection of its own; returns the name of its status."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.address, options) as channel:
            stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
            try:
                stub.Recommend(pb.RecommendRequest(), timeout=20)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"


def children(pid: int) -> list[int]:
    """Returns the direct children of a process that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(holds: Callable[[], object]) -> bool:
    """Returns whether it holds at last."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def command(root: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "shopintent.server", "serve", f"--releases={root}"),
        *("--triton-address=127.0.0.1:1", "--check-timeout-s=0.2", "--grace-s=2"),
        *("--workers=2", *options),
    ]


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    write_small_release(ReleasesRoot(folder / "root"))
    ready, log = folder / "ready.json", folder / "log"
    options = ["--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", f"--ready-file={ready}"]
    with log.open("w") as stderr:
        popen = subprocess.Popen(command(folder / "root", *options), stderr=stderr, text=True)
    try:
        assert eventually(lambda: ready.exists() or popen.poll() is not None)
        assert popen.poll() is None, log.read_text()
        yield Server(popen, log, json.loads(ready.read_text()))
    finally:
        popen.kill()
        popen.wait()


def test_workers_answer_on_one_port_and_their_calls_are_summed(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        workers = server.workers()
        assert len(workers) == 2
        assert {server.call() for _ in range(40)} == {"UNAVAILABLE"}
        assert eventually(lambda: len(server.logged("call")) == 40)
        assert {line["worker"] for line in server.logged("call")} == {0, 1}
        metrics = server.metrics()
        assert metrics["rpc_server_call_duration_seconds_count"] == 40
        assert metrics["shopintent_worker_starts_total"] == 2
        server.popen.terminate()
        assert server.popen.wait(PATIENCE_S) == 0
    assert not any(map(is_running, workers))


def test_a_killed_worker_is_replaced_while_the_other_answers(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        first, second = server.workers()
        # A connection stays with its worker: one to the survivor must not notice anything.
        with grpc.insecure_channel(server.address) as channel:
            stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)

            def ask() -> str:
                with pytest.raises(grpc.RpcError) as raised:
                    stub.Recommend(pb.RecommendRequest(), timeout=20)
                return str(raised.value.code().name)

            assert ask() == "UNAVAILABLE"
            assert eventually(lambda: server.logged("call"))
            [answered] = {line["worker"] for line in server.logged("call")}
            killed = second if answered == 0 else first
            os.kill(killed, signal.SIGKILL)
            assert eventually(lambda: killed not in server.workers())
            messages = {ask() for _ in range(20)}
        assert messages == {"UNAVAILABLE"}
        assert eventually(lambda: len(server.logged("call")) == 21)
        assert eventually(lambda: len(server.workers()) == 2)
        assert eventually(lambda: server.metrics()["shopintent_worker_starts_total"] == 3)
        [ended] = server.logged("a worker ended")
        assert ended["why"] == "killed by SIGKILL"
        # What the dead counted is not lost.
        assert server.metrics()["rpc_server_call_duration_seconds_count"] == 21


def test_a_killed_supervisor_takes_its_workers_along(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        workers = server.workers()
        server.popen.kill()
        server.popen.wait()
        assert eventually(lambda: not any(map(is_running, workers)))
        host, port = server.address.split(":")
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0


def test_workers_that_can_not_start_end_the_server_with_their_reason(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--listen=127.0.0.1:0"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert "shopintent-trainer publish" in done.stderr


def test_a_ready_file_that_can_not_be_written_ends_the_server(tmp_path: Path) -> None:
    write_small_release(ReleasesRoot(tmp_path))
    options = ["--listen=127.0.0.1:0", f"--ready-file={tmp_path / 'none' / 'ready'}"]
    done = subprocess.run(
        command(tmp_path, *options), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_a_port_that_is_taken_is_told_before_any_worker_starts() -> None:
    with socket.socket() as taken:
        # Even one that is shared: that would be another server's.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="SHOPINTENT_LISTEN"):
            reserve_port(Config(listen=listen))
        reserve_port(Config(listen=listen, reuse_port=True)).close()


def test_a_supervisor_loads_no_grpc() -> None:
    check = "import sys, shopintent.server.__main__; sys.exit('grpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
