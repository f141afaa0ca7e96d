"""How a channel is opened: credentials, keepalive, message sizes and the retry policy."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import grpc

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A batch of 1,000 products with long descriptions does not fit gRPC's default of 4 MiB."""


def tls_credentials(
    *,
    root_certificates: Path | None = None,
    client_key: Path | None = None,
    client_certificate: Path | None = None,
) -> grpc.ChannelCredentials:
    """Returns credentials from PEM files; client key and certificate together make it mutual TLS.

    Without `root_certificates` the roots that gRPC ships are trusted.
    """
    if (client_key is None) != (client_certificate is None):
        raise ValueError("mutual TLS needs both client_key and client_certificate")
    return grpc.ssl_channel_credentials(
        root_certificates=root_certificates.read_bytes() if root_certificates else None,
        private_key=client_key.read_bytes() if client_key else None,
        certificate_chain=client_certificate.read_bytes() if client_certificate else None,
    )


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None, *, insecure: bool
) -> grpc.Channel:
    """Returns a blocking channel; TLS with gRPC's roots unless told otherwise."""
    if _plaintext(credentials, insecure=insecure):
        return grpc.insecure_channel(target, channel_options())
    return grpc.secure_channel(target, credentials or tls_credentials(), channel_options())


def open_aio_channel(
    target: str, credentials: grpc.ChannelCredentials | None, *, insecure: bool
) -> grpc.aio.Channel:
    """Returns an asyncio channel; TLS with gRPC's roots unless told otherwise."""
    if _plaintext(credentials, insecure=insecure):
        return grpc.aio.insecure_channel(target, channel_options())
    return grpc.aio.secure_channel(target, credentials or tls_credentials(), channel_options())


def token_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that carries a token; none for no token."""
    return () if token is None else (("authorization", f"Bearer {token}"),)


def channel_options() -> list[tuple[str, str | int]]:
    """Returns the gRPC channel arguments that every client uses."""
    config = resources.files("shopintent.client").joinpath("service_config.json")
    return [
        ("grpc.service_config", config.read_text(encoding="utf-8")),
        # Pings only while a call runs, and no more often than the server tolerates.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # A restarted server is found again within seconds rather than minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]


def _plaintext(credentials: grpc.ChannelCredentials | None, *, insecure: bool) -> bool:
    if insecure and credentials is not None:
        raise ValueError("choose either credentials or insecure=True, not both")
    return insecure
