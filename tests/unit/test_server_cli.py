"""The command line and the configuration: what is read, and what a mistake is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from shopintent.artifacts import ReleaseError, ReleasesRoot
from shopintent.server.__main__ import main
from shopintent.server.config import (
    Config,
    ConfigError,
    check_listen,
    read_config,
    read_placements,
    read_qdrant_api_key,
    read_release_token,
    read_visitor_token,
    variable_of,
)
from shopintent.server.ranking import RankWeights
from shopintent.server.releases import load_release
from support.server import write_small_release


def test_a_flag_wins_over_its_variable_and_a_variable_over_the_default() -> None:
    environ = {"SHOPINTENT_LISTEN": "127.0.0.1:1", "SHOPINTENT_GRACE_S": "3.5"}
    config = read_config(environ, {"listen": "127.0.0.1:2", "grace_s": None})
    assert config.listen == "127.0.0.1:2"
    assert config.grace_s == 3.5
    assert config.triton_address == "127.0.0.1:8001"
    assert config.release == ""


def test_an_empty_variable_is_one_not_set() -> None:
    assert read_config({"SHOPINTENT_GRACE_S": ""}, {}) == Config()


BAD_VALUES = {
    "SHOPINTENT_GRACE_S": "soon",
    "SHOPINTENT_ANSWER_TIMEOUT_S": "-1",
    "SHOPINTENT_CHECK_INTERVAL_S": "nan",
    "SHOPINTENT_SESSION_IDLE_S": "inf",
    "SHOPINTENT_MAX_CONCURRENT_RPCS": "1.5",
    "SHOPINTENT_MAX_VISITORS": "0",
    "SHOPINTENT_INDEX": "faiss",
    "SHOPINTENT_INSECURE": "maybe",
    "SHOPINTENT_LOG_LEVEL": "loud",
    "SHOPINTENT_TRITON_HTTP_ADDRESS": "http://triton:8000",
}


@pytest.mark.parametrize("address", ["", "triton:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    config = read_config({"SHOPINTENT_TRITON_HTTP_ADDRESS": address}, {})
    assert config.triton_http_address == address


@pytest.mark.parametrize("address", ["triton", ":8000", "triton:", "::1:8000", "a b:1", "t:8000/"])
def test_what_is_no_host_and_port_is_told(address: str) -> None:
    with pytest.raises(ConfigError, match=r"TRITON_HTTP_ADDRESS: .* must be a host and a port"):
        read_config({"SHOPINTENT_TRITON_HTTP_ADDRESS": address}, {})


@pytest.mark.parametrize("variable", BAD_VALUES)
def test_a_bad_value_is_told_with_its_variable_and_the_remedy(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable}: .* must be "):
        read_config({variable: BAD_VALUES[variable]}, {})


BAD_COMBINATIONS = {
    "a key is missing": {"SHOPINTENT_TLS_CERTIFICATE": "c"},
    "TLS is off": {"SHOPINTENT_TLS_CLIENT_CA": "c"},
    "no URL": {"SHOPINTENT_INDEX": "qdrant"},
    "sessions of one process": {"SHOPINTENT_WORKERS": "2", "SHOPINTENT_SESSIONS": "memory"},
    "no port to share": {"SHOPINTENT_WORKERS": "2", "SHOPINTENT_LISTEN": "unix:/tmp/socket"},
    "two keys": {"SHOPINTENT_QDRANT_API_KEY": "k", "SHOPINTENT_QDRANT_API_KEY_FILE": "f"},
    "no URL of Redis": {"SHOPINTENT_SESSIONS": "redis"},
    "replicas of a cluster": {
        "SHOPINTENT_REDIS_CLUSTER": "true",
        "SHOPINTENT_REDIS_REPLICAS": "1",
    },
    "two passwords": {
        "SHOPINTENT_REDIS_PASSWORD": "p",
        "SHOPINTENT_REDIS_PASSWORD_FILE": "f",
    },
    "two visitor tokens": {
        "SHOPINTENT_VISITOR_TOKEN": "t",
        "SHOPINTENT_VISITOR_TOKEN_FILE": "f",
    },
    "two tokens": {"SHOPINTENT_RELEASE_TOKEN": "t", "SHOPINTENT_RELEASE_TOKEN_FILE": "f"},
}


@pytest.mark.parametrize("name", BAD_COMBINATIONS)
def test_options_that_do_not_go_together_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="SHOPINTENT_"):
        read_config(BAD_COMBINATIONS[name], {})


def test_a_secret_shows_neither_in_the_help_nor_in_the_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "hush" not in repr(read_config({"SHOPINTENT_QDRANT_API_KEY": "hush"}, {}))
    with pytest.raises(SystemExit):
        main(["serve", "--qdrant-api-key", "hush"])
    capsys.readouterr()


def test_the_api_key_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("hush\n")
    assert read_qdrant_api_key(Config(qdrant_api_key_file=file)) == "hush"
    assert read_qdrant_api_key(Config(qdrant_api_key="k")) == "k"
    assert read_qdrant_api_key(Config()) is None
    with pytest.raises(ConfigError, match="SHOPINTENT_QDRANT_API_KEY_FILE"):
        read_qdrant_api_key(Config(qdrant_api_key_file=tmp_path / "none"))


@pytest.mark.parametrize(
    ("name", "read"), [("release_token", read_release_token), ("visitor_token", read_visitor_token)]
)
def test_a_token_may_come_from_a_file(
    tmp_path: Path, name: str, read: Callable[[Config], str | None]
) -> None:
    file, token = tmp_path / "token", "0123456789abcdef"
    file.write_text(f"{token}\n")
    options: dict[str, Any] = {name: token}
    assert read(Config(**{f"{name}_file": file})) == token  # type: ignore[arg-type]
    assert read(Config(**options)) == token
    assert read(Config()) is None
    assert token not in repr(Config(**options))


@pytest.mark.parametrize("token", ["", "short", "with a space in it", "nicht-nur-ascii-ü"])
def test_a_token_that_is_easily_guessed_or_cannot_be_sent_is_refused(
    tmp_path: Path, token: str
) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    with pytest.raises(ConfigError, match="openssl rand") as raised:
        read_release_token(Config(release_token_file=file))
    assert not token or token not in str(raised.value)


def test_a_server_with_a_bad_token_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOPINTENT_RELEASE_TOKEN", "hush")
    for workers in ("1", "2"):
        assert main(["serve", "--workers", workers]) == 2
        told = capsys.readouterr().err
        assert "SHOPINTENT_RELEASE_TOKEN" in told
        assert "hush" not in told


def test_placements_are_read_and_home_is_always_there(tmp_path: Path) -> None:
    file = tmp_path / "placements.toml"
    file.write_text("[cart]\npopularity = 0.5\n")
    assert read_placements(file) == {
        "home": RankWeights(),
        "cart": RankWeights(similarity=1.0, popularity=0.5),
    }


@pytest.mark.parametrize(
    "text", ["cart", "[cart]\nspeed = 1", "[cart]\npopularity = 'high'", "cart = 1"]
)
def test_placements_that_can_not_be_used_are_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "placements.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="SHOPINTENT_PLACEMENTS"):
        read_placements(file)


def test_every_option_says_what_it_means_and_names_its_variable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    help_text = "".join(capsys.readouterr().out.split())
    for option in fields(Config):
        if not option.metadata["secret"]:
            assert variable_of(option) in help_text


def test_a_mistake_is_told_in_one_line_and_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", "--listen", "0.0.0.0:50051"]) == 2
    told = capsys.readouterr().err
    assert "--insecure" in told
    assert told.count("\n") == 1


def test_metrics_are_open_to_this_machine_only_unless_that_is_accepted() -> None:
    with pytest.raises(ConfigError, match="SHOPINTENT_METRICS_LISTEN"):
        check_listen(Config(metrics_listen="0.0.0.0:9464"))
    check_listen(Config(metrics_listen="127.0.0.1:9464"))
    check_listen(Config(metrics_listen="0.0.0.0:9464", insecure=True))


def test_a_release_that_is_not_there_exits_with_1_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--releases", str(tmp_path)]) == 1
    assert "shopintent-trainer publish" in capsys.readouterr().err


@pytest.mark.parametrize("release_id", ["r9", "../r1", "R1"])
def test_a_release_that_does_not_exist_is_refused(tmp_path: Path, release_id: str) -> None:
    root = ReleasesRoot(tmp_path)
    write_small_release(root)
    with pytest.raises(ReleaseError, match="release"):
        load_release(root, release_id)


@pytest.mark.parametrize("damaged", ["manifest.json", "behavior_tokenizer/tokenizer.json"])
def test_a_damaged_release_is_refused(tmp_path: Path, damaged: str) -> None:
    folder = write_small_release(ReleasesRoot(tmp_path))
    (folder.path / damaged).write_text("{")
    with pytest.raises(ReleaseError, match="cannot be read"):
        load_release(ReleasesRoot(tmp_path), "")


def test_load_index_loads_once_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_release(ReleasesRoot(tmp_path))
    for _ in range(2):
        assert main(["load-index", "--releases", str(tmp_path)]) == 0
        assert "the index holds release r1" in capsys.readouterr().out


def test_health_of_a_server_that_is_not_there_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--listen", "127.0.0.1:1", "--timeout-s", "1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_the_process_serves_tells_its_health_and_drains_on_sigterm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_release(ReleasesRoot(tmp_path / "root"))
    ready = tmp_path / "ready.json"
    command = [
        sys.executable, "-m", "shopintent.server", "serve",
        "--releases", str(tmp_path / "root"), "--listen", "127.0.0.1:0",
        "--triton-address", "127.0.0.1:1", "--grace-s", "1", "--ready-file", str(ready),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        while not ready.exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        address = json.loads(ready.read_text())["address"]
        # Without Triton it may not answer, and says so.
        assert main(["health", "--listen", address]) == 1
        assert "NOT_SERVING" in capsys.readouterr().out
        while main(["health", "--listen", address, "--service", "dependency.index"]) != 0:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    messages = [json.loads(line)["message"] for line in logged.splitlines()]
    assert "listening" in messages
    assert "draining" in messages
    assert any("intent-model can not be used" in each for each in messages)
