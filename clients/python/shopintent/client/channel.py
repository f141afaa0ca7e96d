"""How a channel is opened: credentials, keepalive, message sizes and the retry policy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Generic, TypeVar

import grpc

STREAMS_PER_CHANNEL = 100
"""A server takes 128 calls of one connection at a time; others wait, whatever they are."""

Channel = TypeVar("Channel")

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
    target: str, credentials: grpc.ChannelCredentials | None, *, insecure: bool, alone: bool = False
) -> grpc.Channel:
    """Returns a blocking channel; TLS with gRPC's roots unless told otherwise.

    One that is `alone` has a connection of its own.
    """
    options = channel_options(alone=alone)
    if _plaintext(credentials, insecure=insecure):
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials or tls_credentials(), options)


def open_aio_channel(
    target: str, credentials: grpc.ChannelCredentials | None, *, insecure: bool, alone: bool = False
) -> grpc.aio.Channel:
    """Returns an asyncio channel in the same way."""
    options = channel_options(alone=alone)
    if _plaintext(credentials, insecure=insecure):
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials or tls_credentials(), options)


class StreamChannels(Generic[Channel]):
    """Channels for streams, which stay open for long: other calls must not wait behind them."""

    def __init__(self, open_another: Callable[[], Channel]) -> None:
        self._open_another = open_another
        self._n_streams: dict[Channel, int] = {}
        self._lock = threading.Lock()

    def take(self) -> Channel:
        """Returns a channel for one more stream; give it back when the stream has ended."""
        with self._lock:
            free = (each for each, n in self._n_streams.items() if n < STREAMS_PER_CHANNEL)
            channel = next(free, None) or self._open_another()
            self._n_streams[channel] = self._n_streams.get(channel, 0) + 1
            return channel

    def give_back(self, channel: Channel) -> None:
        """Notes that a stream has ended."""
        with self._lock:
            self._n_streams[channel] -= 1

    def opened(self) -> list[Channel]:
        """Returns every channel, for whoever closes them."""
        with self._lock:
            return list(self._n_streams)


def token_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that carries a token; none for no token."""
    return () if token is None else (("authorization", f"Bearer {token}"),)


def channel_options(*, alone: bool = False) -> list[tuple[str, str | int]]:
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
        # Channels to one server share a connection otherwise.
        ("grpc.use_local_subchannel_pool", int(alone)),
    ]


def _plaintext(credentials: grpc.ChannelCredentials | None, *, insecure: bool) -> bool:
    if insecure and credentials is not None:
        raise ValueError("choose either credentials or insecure=True, not both")
    return insecure
