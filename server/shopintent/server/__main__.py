"""shopintent-server: serves one release, loads its index, or asks a server for its health."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shopintent.artifacts import ReleaseError
from shopintent.server import app, opening
from shopintent.server.config import Config, ConfigError, check_listen, help_of, read_config
from shopintent.server.errors import ShopIntentError
from shopintent.server.logs import log_to_stderr
from shopintent.server.metrics import Metrics
from shopintent.server.metrics_page import serve_metrics
from shopintent.server.ready_file import write_ready_file

DESCRIPTION = """\
Answers what shoppers mean to do next, and what to show them, over gRPC.

  shopintent-server serve        serve the current release until SIGTERM
  shopintent-server load-index   load the release's products into the index (once a release,
                                 for a Qdrant server; the edge index is loaded by serve)
  shopintent-server health       exit with 0 when a running server may answer, else with 1

Every option is an environment variable too; `shopintent-server serve --help` lists them.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 success, 1 failure, 2 bad configuration."""
    parsed = _parser().parse_args(arguments)
    try:
        config = read_config(os.environ, vars(parsed))
        if parsed.command == "health":
            return _health(config, parsed.service, parsed.timeout_s)
        if parsed.command == "load-index":
            return _load_index(config)
        log_to_stderr(config.log_level)
        _serve(config, parsed.ready_file)
    except ConfigError as error:
        print(f"shopintent-server: {error}", file=sys.stderr)
        return 2
    except (ReleaseError, ShopIntentError) as error:
        print(f"shopintent-server: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in fields(Config):
        flag = "--" + option.name.replace("_", "-")
        # A secret on a command line would show in the list of processes.
        if not option.metadata["secret"]:
            help_text = help_of(option).replace("%", "%%")
            # A flag that is true or false may stand alone: --insecure.
            alone: dict[str, Any] = (
                {"nargs": "?", "const": "true"} if isinstance(option.default, bool) else {}
            )
            options.add_argument(flag, dest=option.name, metavar="VALUE", help=help_text, **alone)
    parser = argparse.ArgumentParser(
        prog="shopintent-server",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=metadata.version("shopintent"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Without abbreviations --qdrant-api-key can not be taken for --qdrant-api-key-file.
    add = partial(commands.add_parser, allow_abbrev=False)
    serve = add("serve", parents=[options], help="serve the current release")
    serve.add_argument(
        "--ready-file",
        type=Path,
        metavar="PATH",
        help="JSON file written once listening, with the address and the release's id",
    )
    add("load-index", parents=[options], help="load products into the index")
    health = add(
        "health",
        parents=[options],
        help="check a running server",
        description="Asks the server at --listen. With TLS give the server's own files and, in "
        "--listen, a host that its certificate names.",
    )
    health.add_argument(
        "--service", default="", help="the name to ask for, such as dependency.triton"
    )
    health.add_argument(
        "--timeout-s", type=float, default=2.0, help="seconds to wait for the answer"
    )
    return parser


def _serve(config: Config, ready_file: Path | None) -> None:
    check_listen(config)
    metrics, metrics_address = Metrics(), ""
    if config.metrics_listen:
        metrics_address = serve_metrics(config.metrics_listen, [metrics.block])

    def tell(address: str, release_id: str) -> None:
        if ready_file is not None:
            write_ready_file(ready_file, address, release_id, metrics_address)

    asyncio.run(app.serve(config, metrics, tell))


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


if __name__ == "__main__":
    sys.exit(main())
