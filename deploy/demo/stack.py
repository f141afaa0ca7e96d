"""Triton and the server of a release, side by side on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.demo.processes import START_TIMEOUT_S, Process, running
from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.layout import (
    intent_model,
    product_encoder_model,
    text_encoder_model,
)

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(sys.executable).with_name("shopintent-server")


@dataclass(frozen=True)
class Stack:
    """What runs, and where the server listens."""

    triton: Process
    triton_address: str
    triton_http_address: str
    server: Process
    address: str


@contextmanager
def serving(
    releases: ReleasesRoot,
    logs: Path,
    *,
    port: int = 0,
    server_options: Sequence[str] = (),
    say: Callable[[str], None] = lambda message: None,
) -> Iterator[Stack]:
    """Runs Triton and the server of the current release until the block ends.

    Port 0 takes a free one. Raises ProcessError when either does not start.
    """
    release_id = releases.current()
    assert release_id is not None, f"{releases.path} names no current release"
    say("starting Triton")
    with triton(releases, release_id, logs) as (triton_process, triton_address):
        say("starting the server")
        http_address = triton_http_address(logs)
        with server(
            releases,
            triton_address,
            logs,
            port=port,
            server_options=server_options,
            triton_http_address=http_address,
            model_control_key=model_control_key(logs),
        ) as (server_process, address):
            yield Stack(triton_process, triton_address, http_address, server_process, address)


@contextmanager
def server(
    releases: ReleasesRoot,
    triton_address: str,
    logs: Path,
    *,
    port: int = 0,
    server_options: Sequence[str] = (),
    start_timeout_s: float = START_TIMEOUT_S,
    triton_http_address: str = "",
    model_control_key: str = "",
    secrets: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[Process, str]]:
    """Runs the server of the current release until the block ends; yields it and its address.

    It answers already. A large collection is indexed at the first start: give it time. Models are
    asked over gRPC where no HTTP address of Triton is given. With Triton's key the server loads the
    models of releases that are to take traffic. `secrets` are the options that are no arguments, as
    environment variables.
    """
    options = [
        f"--releases={releases.path}",
        f"--triton-address={triton_address}",
        f"--triton-http-address={triton_http_address}",
        f"--listen=127.0.0.1:{port}",
        *server_options,
    ]
    with running(
        "shopintent-server",
        [str(SERVER), "serve", *options, f"--ready-file={fresh(logs / 'server.json')}"],
        logs / "server.log",
        secrets={"SHOPINTENT_TRITON_MODEL_CONTROL_KEY": model_control_key, **secrets},
    ) as process:
        process.wait_until((logs / "server.json").exists, timeout_s=start_timeout_s)
        address = json.loads((logs / "server.json").read_text(encoding="utf-8"))["address"]
        process.wait_until(lambda: is_serving(address))
        yield process, address


def is_serving(address: str) -> bool:
    """Returns whether the health of a server says SERVING."""
    with grpc.insecure_channel(address) as channel:
        # The type stubs leave the methods out.
        check: Any = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def triton(
    releases: ReleasesRoot,
    release_id: str,
    logs: Path,
    *,
    grpc_port: int = 0,
    http_port: int = 0,
    model_control_key: str = "",
) -> Iterator[tuple[Process, str]]:
    """Runs the embedded Triton with the models of a release; yields it and its gRPC address.

    Without a key it makes one, which `model_control_key` tells.
    """
    models = [
        named(release_id) for named in (intent_model, text_encoder_model, product_encoder_model)
    ]
    command = [
        sys.executable,
        "-m",
        "deploy.triton",
        "serve",
        f"--model-repository={releases.model_repository.absolute()}",
        *(f"--load-model={model}" for model in models),
        f"--grpc-port={grpc_port}",
        f"--http-port={http_port}",
        f"--ready-file={fresh(logs / 'triton.json')}",
    ]
    secrets = {"SHOPINTENT_TRITON_MODEL_CONTROL_KEY": model_control_key}
    with running("Triton", command, logs / "triton.log", folder=ROOT, secrets=secrets) as process:
        process.wait_until((logs / "triton.json").exists)
        yield process, _told(logs, "grpc")


def model_control_key(logs: Path) -> str:
    """Returns the key of the Triton that was started with these logs."""
    return _told(logs, "model_control_key")


def triton_http_address(logs: Path) -> str:
    """Returns where the Triton that was started with these logs speaks HTTP."""
    return _told(logs, "http")


def _told(logs: Path, what: str) -> str:
    return str(json.loads((logs / "triton.json").read_text(encoding="utf-8"))[what])


def fresh(path: Path) -> Path:
    """Returns the path, which does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path.absolute()
