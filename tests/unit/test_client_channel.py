"""Encryption, and what is shipped to gRPC with every channel."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from shopintent.client import ShopIntentClient, UnavailableError, tls_credentials
from shopintent.client.channel import STREAMS_PER_CHANNEL, StreamChannels, channel_options
from shopintent.v1.catalog_service_pb2 import GetProductResponse
from support.scripted_server import ScriptedServer, services


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Returns a self-signed certificate for localhost and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(chain)]
    subprocess.run(
        ["openssl", "req", "-x509", *options, *names, *files], check=True, capture_output=True
    )
    return chain, key


@pytest.fixture
def mutual_tls_server(certificate: tuple[Path, Path]) -> Iterator[ScriptedServer]:
    chain, key = (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials([(key, chain)], chain, require_client_auth=True)
    with ScriptedServer(credentials) as server:
        yield server


def test_mutual_tls_works_with_the_right_certificates(
    mutual_tls_server: ScriptedServer, certificate: tuple[Path, Path]
) -> None:
    chain, key = certificate
    credentials = tls_credentials(root_certificates=chain, client_key=key, client_certificate=chain)
    mutual_tls_server.script(GetProductResponse())
    with ShopIntentClient(mutual_tls_server.target, credentials=credentials) as client:
        assert client.get_product("p", timeout_s=20.0) == GetProductResponse()


def test_a_server_that_no_known_root_signed_is_not_talked_to(
    mutual_tls_server: ScriptedServer,
) -> None:
    mutual_tls_server.script(GetProductResponse())
    with (
        ShopIntentClient(mutual_tls_server.target) as client,
        pytest.raises(UnavailableError),
    ):
        client.get_product("p", timeout_s=20.0)
    assert mutual_tls_server.requests == []


def test_plain_text_must_be_asked_for() -> None:
    with ScriptedServer() as server:
        server.script(GetProductResponse())
        with ShopIntentClient(server.target) as client, pytest.raises(UnavailableError):
            client.get_product("p", timeout_s=20.0)
        assert server.requests == []


def test_plain_text_and_credentials_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        ShopIntentClient("localhost:1", credentials=tls_credentials(), insecure=True)


def test_half_a_client_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="both client_key and client_certificate"):
        tls_credentials(client_key=Path("key.pem"))


def test_only_unavailable_is_retried_and_on_every_service() -> None:
    config = json.loads(str(dict(channel_options())["grpc.service_config"]))
    retried, streams = config["methodConfig"]
    named = {entry["service"] for entry in retried["name"]}
    assert named == {service.full_name for service in services()}
    assert retried["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    # Streams are resumed by the client, which knows what was answered; gRPC would send all again.
    (stream,) = streams["name"]
    assert stream["method"] == "StreamIntents"
    assert "retryPolicy" not in streams


def test_streams_get_a_connection_of_their_own_for_every_hundred() -> None:
    opened: list[object] = []

    def open_another() -> object:
        opened.append(object())
        return opened[-1]

    channels = StreamChannels(open_another)
    taken = [channels.take() for _ in range(2 * STREAMS_PER_CHANNEL)]
    assert channels.opened() == opened
    assert [taken.count(each) for each in opened] == [STREAMS_PER_CHANNEL] * 2
    channels.give_back(opened[0])
    assert channels.take() is opened[0]
    assert dict(channel_options(alone=True))["grpc.use_local_subchannel_pool"] == 1
