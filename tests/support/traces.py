"""What a shopper could leave in files: ids as they are, pseudonyms, and hashes of any kind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from shopintent.server.pseudonyms import Keyring

HASHES = ("md5", "sha1", "sha256", "sha512", "blake2b", "blake2s")


def traces(keys: Iterable[str], keyring: Keyring) -> dict[bytes, str]:
    """Returns what must not be found of visitors, and what each is, for messages."""
    found: dict[bytes, str] = {}
    for key in keys:
        raw = key.partition(":")[2]
        found[raw.encode()] = f"the id of {key}"
        for secret in keyring.keys:
            name = secret.pseudonym(key)
            digest = name.rpartition("-")[2]
            found[digest.encode()] = f"the pseudonym of {key} by {secret.key_id}"
            found[bytes.fromhex(digest)] = f"the bytes of the pseudonym of {key}"
            for text in (raw, key):
                keyed = hashlib.blake2b(text.encode(), key=secret.secret, digest_size=16)
                found[keyed.digest()] = f"{text} hashed with {secret.key_id}"
        for text in (raw, key):
            for name in HASHES:
                plain = hashlib.new(name, text.encode())
                found[plain.digest()] = f"{name} of {text}"
                found[plain.hexdigest().encode()] = f"{name} of {text} in hex"
    return found


def found_in(folder: Path, wanted: dict[bytes, str]) -> list[str]:
    """Returns where which trace is, in the bytes of all files below a folder."""
    return [
        f"{what} in {path.relative_to(folder)}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for content in _contents(path)
        for trace, what in wanted.items()
        if trace in content
    ]


def _contents(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    if path.suffix == ".parquet":
        # Its pages are compressed.
        yield pl.read_parquet(path).write_ndjson().encode()
