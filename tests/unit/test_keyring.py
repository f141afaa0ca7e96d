"""The keys of pseudonyms: made once, rotated, followed, and retired when they name nobody."""

from __future__ import annotations

import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shopintent.server.keyring_file import (
    FollowedKeyring,
    KeyringError,
    ensure_keyring,
    read_keyring,
    retire,
    rotate,
)

pytestmark = pytest.mark.events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "pseudonym-keys.json"
    ensure_keyring(path)
    return path


def test_a_pseudonym_names_its_key_and_tells_nothing_of_the_visitor(path: Path) -> None:
    keyring = read_keyring(path)
    name = keyring.pseudonym("visitor:ann@example.com")
    assert re.fullmatch(r"k1-[0-9a-f]{32}", name)
    assert keyring.pseudonym("visitor:ann@example.com") == name
    assert keyring.pseudonym("user:ann@example.com") != name


def test_servers_that_start_together_make_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as threads:
        rings = list(threads.map(ensure_keyring, [path] * 16))
    assert len(set(rings)) == 1


def test_only_the_owner_may_read_the_keys(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rotate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_secrets_do_not_show_where_a_keyring_is_printed(path: Path) -> None:
    keyring = read_keyring(path)
    assert keyring.keys[0].secret.hex() not in repr(keyring)
    assert repr(keyring.keys[0].secret) not in repr(keyring)


def test_rotation_names_everybody_anew_and_still_knows_the_old_names(path: Path) -> None:
    [old] = read_keyring(path).pseudonyms("user:ann")
    assert rotate(path) == "k2"
    keyring = read_keyring(path)
    assert keyring.pseudonym("user:ann").startswith("k2-")
    assert keyring.pseudonyms("user:ann") == (keyring.pseudonym("user:ann"), old)


def test_running_servers_follow_the_file(path: Path) -> None:
    now = 0.0
    keyring = FollowedKeyring(path, clock=lambda: now)
    rotate(path)
    assert keyring.pseudonym("user:ann").startswith("k1-")
    now = 2.0
    assert keyring.pseudonym("user:ann").startswith("k2-")
    assert [key.key_id for key in keyring.keys] == ["k2", "k1"]


def test_a_file_that_goes_bad_leaves_the_keys_as_they_were(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    keyring = FollowedKeyring(path, clock=lambda: now)
    name = keyring.pseudonym("user:ann")
    path.write_text("{")
    now = 2.0
    assert keyring.pseudonym("user:ann") == name
    assert "going on with the keys as they were" in caplog.text


def test_a_key_that_names_nobody_is_retired(path: Path) -> None:
    rotate(path)
    retire(path, "k1", records=0)
    assert [key.key_id for key in read_keyring(path).keys] == ["k2"]
    assert rotate(path) == "k3"


REFUSED = {
    "k1": (3, "3 records still name shoppers with k1: wait"),
    "k2": (0, "k2 is the key in use: rotate first"),
    "k7": (0, "no key has the id k7; there are: k2, k1"),
}


@pytest.mark.parametrize("key_id", REFUSED)
def test_a_key_that_is_needed_is_not_retired(path: Path, key_id: str) -> None:
    rotate(path)
    records, why = REFUSED[key_id]
    with pytest.raises(KeyringError, match=why):
        retire(path, key_id, records)
    assert len(read_keyring(path).keys) == 2


BAD = {
    "no JSON": "{",
    "another version": json.dumps({"format_version": 2, "keys": [{}]}),
    "no key": json.dumps({"format_version": 1, "keys": []}),
    "short": json.dumps({"format_version": 1, "keys": [{"key_id": "k1", "secret": "00"}]}),
    "odd id": json.dumps({"format_version": 1, "keys": [{"key_id": "x", "secret": "00" * 32}]}),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_not_replaced_but_told_of(path: Path, what: str) -> None:
    path.write_text(BAD[what])
    with pytest.raises(KeyringError, match="restore the file"):
        ensure_keyring(path)
    assert path.read_text() == BAD[what]
