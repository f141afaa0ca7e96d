"""What shopintent-server's commands do; a supervisor of workers does not load it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shopintent.artifacts import ReleaseError
from shopintent.server import app, opening, workers
from shopintent.server.config import Config, check_listen
from shopintent.server.errors import ShopIntentError
from shopintent.server.event_commands import run_events
from shopintent.server.logs import log_to_stderr
from shopintent.server.metrics import Metrics
from shopintent.server.metrics_page import serve_metrics
from shopintent.server.ready_file import write_ready_file
from shopintent.server.release_commands import run_releases
from shopintent.server.visitor_commands import run_visitors


def run(parsed: argparse.Namespace, config: Config) -> int:
    """Runs one command and returns its exit code, 1 for a failure. Raises ConfigError."""
    try:
        if parsed.command == "health":
            return _health(config, parsed.service, parsed.timeout_s)
        if parsed.command == "load-index":
            return _load_index(config)
        if parsed.command == "releases":
            return run_releases(parsed, config)
        if parsed.command == "events":
            return run_events(parsed, config)
        if parsed.command == "visitors":
            return run_visitors(parsed, config)
        if parsed.worker is not None:
            _work(config, workers.Assignment.parse(parsed.worker))
        else:
            _serve(config, parsed.ready_file)
    except (ReleaseError, ShopIntentError) as error:
        print(f"shopintent-server: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(config: Config, ready_file: Path | None) -> None:
    """Serves in this process alone."""
    log_to_stderr(config.log_level)
    check_listen(config)
    metrics, metrics_address = Metrics(), ""
    if config.metrics_listen:
        metrics_address = serve_metrics(config.metrics_listen, [metrics.block])

    def tell(address: str, release_id: str) -> None:
        if ready_file is not None:
            write_ready_file(ready_file, address, release_id, metrics_address)

    uvloop.run(app.serve(config, metrics, tell))


def _work(config: Config, assignment: workers.Assignment) -> None:
    """Serves as one of several workers."""
    log_to_stderr(config.log_level, worker=assignment.number)
    serving = app.serve(
        config, assignment.metrics(), workers.tell_listening, worker=assignment.number
    )
    uvloop.run(serving)


def _load_index(config: Config) -> int:
    def show(done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        print(f"\rloading products: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)

    release = asyncio.run(opening.load_index(config, show))
    print(f"the index holds release {release.release_id}")
    return 0


def _health(config: Config, service: str, timeout_s: float) -> int:
    """Asks the server at `listen`; with TLS, its certificate must name that host."""
    with _channel(config) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            check: Any = stub.Check  # type: ignore[attr-defined]  # The stubs leave it out.
            answer = check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            print(f"no answer from {config.listen}: {error.details()}", file=sys.stderr)
            return 1
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


def _channel(config: Config) -> grpc.Channel:
    address = config.listen.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
    if config.tls_certificate is None:
        return grpc.insecure_channel(address)
    certificate = config.tls_certificate.read_bytes()
    if config.tls_client_ca is None or config.tls_private_key is None:
        credentials = grpc.ssl_channel_credentials(certificate)
    else:  # The server vouches for itself to itself.
        key = config.tls_private_key.read_bytes()
        credentials = grpc.ssl_channel_credentials(certificate, key, certificate)
    return grpc.secure_channel(address, credentials)
