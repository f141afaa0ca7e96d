"""Starts the server of a peer, and ends it with every process below it."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from deploy.bench.peers.environments import ROOT
from deploy.bench.peers.peers import Peer, Settings
from deploy.demo.processes import Process, ProcessError, running
from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.layout import intent_model

PATH = "/predict"
PATIENCE_S = 30.0


@dataclass(frozen=True, eq=False)
class Server:
    """A peer that serves."""

    peer: Peer
    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def ask(self, behavior: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to one behavior. Raises ProcessError when there is none."""
        status, body = self.post(json.dumps(self.peer.request(behavior)).encode())
        if status != 200:
            raise ProcessError(f"{self.peer.title} answers with status {status}: {body[:500]!r}")
        return self.peer.answer(json.loads(body))

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Returns the status and the body of what a request is answered with."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("POST", PATH, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def answers(self, behavior: dict[str, Any]) -> bool:
        """Returns whether it answers already."""
        try:
            self.ask(behavior)
        except (OSError, HTTPException, ProcessError):
            time.sleep(0.1)
            return False
        return True


@contextmanager
def serving(
    peer: Peer,
    settings: Settings,
    python: Path,
    releases: ReleasesRoot,
    log_file: Path,
    *,
    behavior: dict[str, Any],
) -> Iterator[Server]:
    """Runs a peer with the intent model of the current release until the block ends.

    It answers already: `behavior` is what it is asked for. Raises ProcessError.
    """
    release_id = releases.current()
    assert release_id is not None, f"{releases.path} names no current release"
    port = free_port()
    # Short, for sockets lie in it; it is their home, too, so that they leave nothing behind.
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as scratch:
        variables = {
            **peer.environment,
            **own_corner(scratch),
            "PYTHONPATH": str(ROOT),
            "INTENT_MODEL": str(
                (releases.model_repository / intent_model(release_id)).absolute()
                / "1"
                / "model.onnx"
            ),
            "INTENT_MANIFEST": str(releases.release(release_id).manifest.absolute()),
            "INTENT_PORT": str(port),
            "INTENT_SCRATCH": scratch,
            **{f"INTENT_{name.upper()}": str(value) for name, value in settings.items()},
        }
        command = [
            *(sys.executable, "-m", "deploy.bench.peers.reaper", "env"),
            *(f"{name}={value}" for name, value in variables.items()),
            *peer.command(str(python), port, settings),
        ]
        with running(peer.title, command, log_file, folder=ROOT) as process:
            server = Server(peer, process, port)
            process.wait_until(lambda: server.answers(behavior))
            yield server


def own_corner(scratch: str) -> dict[str, str]:
    """Returns the variables that keep files and ports of a peer apart from everything else."""
    return {
        "HOME": scratch,
        "BENTOML_HOME": f"{scratch}/bentoml",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{scratch}/haproxy/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{scratch}/haproxy/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": f"{scratch}/haproxy",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{scratch}/haproxy/server-state",
        **{
            f"RAY_SERVE_{name}_PORT": str(free_port())
            for name in (
                "HAPROXY_METRICS",
                "HAPROXY_STATS",
                "FALLBACK_PROXY_HTTP",
                "FALLBACK_PROXY_GRPC",
            )
        },
    }


def free_port() -> int:
    """Returns a port of this machine that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
