"""The peers: what each is made of, how it is started, and the settings that are tried."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SERVERS = "deploy.bench.peers.servers"
CORES = len(os.sched_getaffinity(0))

Json = dict[str, Any]
Settings = Mapping[str, int]
"""What a server is started with, besides the model; "workers" are the processes that run it."""


@dataclass(frozen=True, eq=False)
class Peer:
    """A way to serve the model."""

    name: str
    title: str
    package: str
    """Whose version names it."""
    arguments: tuple[str, ...]
    """Of Python, to serve; {port} and the settings are filled in."""
    settings: tuple[Settings, ...]
    """Of which those are measured that serve most."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that its documentation recommends, or that keep it from telling its makers."""
    takes_lists: bool = False
    """Whether a request is a list of behaviors, of one here, and so is the answer."""

    def command(self, python: str, port: int, settings: Settings) -> list[str]:
        """Returns the command line that serves on the port."""
        return [python, *(each.format(port=port, **settings) for each in self.arguments)]

    def request(self, behavior: Json) -> Any:
        """Returns what is sent as JSON."""
        return {"behaviors": [behavior]} if self.takes_lists else behavior

    def answer(self, answered: Any) -> Json:
        """Returns the answer in what came back as JSON."""
        found: Json = answered[0] if self.takes_lists else answered
        return found


FASTAPI = Peer(
    name="fastapi",
    title="FastAPI",
    package="fastapi",
    arguments=(
        *("-m", "uvicorn", f"{SERVERS}.fastapi_server:app"),
        *("--port={port}", "--workers={workers}", "--loop=uvloop", "--http=httptools"),
        *("--no-access-log", "--log-level=warning"),
    ),
    settings=(
        {"workers": 1, "threads": 1},
        {"workers": CORES, "threads": 0},
        {"workers": CORES, "threads": 1},
    ),
)
LITSERVE = Peer(
    name="litserve",
    title="LitServe",
    package="litserve",
    arguments=("-m", f"{SERVERS}.litserve_server"),
    settings=(
        {"workers": 1, "api_servers": 1},
        {"workers": 1, "api_servers": CORES},
        {"workers": CORES, "api_servers": 1},
        {"workers": CORES, "api_servers": CORES},
    ),
)
RAY_SERVE = Peer(
    name="ray-serve",
    title="Ray Serve",
    package="ray",
    arguments=("-m", f"{SERVERS}.ray_serve_server"),
    settings=(
        {"workers": 1, "batch_wait_ms": 1},
        {"workers": 1, "batch_wait_ms": 5},
        {"workers": CORES, "batch_wait_ms": 1},
        {"workers": CORES, "batch_wait_ms": 5},
    ),
    environment={
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    },
)
BENTOML = Peer(
    name="bentoml",
    title="BentoML",
    package="bentoml",
    arguments=(
        *("-m", "bentoml", "serve", f"{SERVERS}.bentoml_server:Intent"),
        *("--host=127.0.0.1", "--port={port}"),
    ),
    settings=({"workers": 1}, {"workers": CORES}),
    environment={"BENTOML_DO_NOT_TRACK": "true"},
    takes_lists=True,
)
PEERS = (FASTAPI, LITSERVE, RAY_SERVE, BENTOML)


def by_name(name: str) -> Peer:
    """Returns a peer by its name."""
    return next(peer for peer in PEERS if peer.name == name)


def told(settings: Settings) -> str:
    """Returns settings in words: "workers 2, threads 0"."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
