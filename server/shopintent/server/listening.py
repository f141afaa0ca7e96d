"""How the server listens: limits of a call and a connection, the port, TLS."""

from __future__ import annotations

import grpc

from shopintent.server.config import Config, ConfigError
from shopintent.server.interceptors import Calls

MAX_REQUEST_BYTES = 16 * 1024 * 1024
MAX_STREAMS = 128
"""Calls of one connection that the server is told of; more wait at the caller, whose deadline goes
on. Otherwise calls come faster than they can be turned away, and all of them end too late."""
BACKSTOP = 10
"""Times as many calls as are admitted may be open, those that are being refused among them."""


def grpc_server(config: Config, calls: Calls) -> grpc.aio.Server:
    """Returns a server of the calls with our limits that does not listen yet."""
    age_ms = int(1000 * config.max_connection_age_s)
    server = grpc.aio.server(
        # Far above what is admitted: gRPC refuses everybody then, and does not say when to retry.
        maximum_concurrent_rpcs=BACKSTOP * config.max_concurrent_rpcs + config.max_streams,
        options=[
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            ("grpc.so_reuseport", int(config.reuse_port)),
            ("grpc.max_connection_age_ms", age_ms),
            ("grpc.max_connection_age_grace_ms", int(1000 * config.grace_s)),
            # A client may ping once a minute (its own interval must not be shorter).
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ],
    )
    calls.add_to(server)
    return server


def bind(server: grpc.aio.Server, config: Config) -> int:
    """Opens the port, with TLS when there is a certificate, and returns its number."""
    try:
        if config.tls_certificate is None or config.tls_private_key is None:
            return server.add_insecure_port(config.listen)
        client_ca = config.tls_client_ca
        credentials = grpc.ssl_server_credentials(
            [(config.tls_private_key.read_bytes(), config.tls_certificate.read_bytes())],
            root_certificates=None if client_ca is None else client_ca.read_bytes(),
            require_client_auth=client_ca is not None,
        )
        return server.add_secure_port(config.listen, credentials)
    except OSError as error:
        raise ConfigError(f"a TLS file cannot be read: {error}") from error
    except RuntimeError as error:
        raise ConfigError(
            f"SHOPINTENT_LISTEN: cannot listen on {config.listen}; is the port taken, or a TLS "
            f"file no PEM? ({error})"
        ) from error
