"""Pseudonyms: what shoppers are called in the event log and in everything trained from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

DIGEST_BYTES = 16


@dataclass(frozen=True)
class PseudonymKey:
    """A secret, and the short name under which pseudonyms made with it are told apart."""

    key_id: str
    secret: bytes = field(repr=False)

    def pseudonym(self, visitor: str) -> str:
        """Returns the pseudonym of a visitor's key, such as "k1-3f..": the same every time.

        Nobody can find or try out ids without the secret (BLAKE2b, RFC 7693, keyed).
        """
        digest = hashlib.blake2b(visitor.encode(), key=self.secret, digest_size=DIGEST_BYTES)
        return f"{self.key_id}-{digest.hexdigest()}"


class Pseudonyms(Protocol):
    """Names shoppers: a Keyring, or one that follows its file (`keyring_file`)."""

    @property
    def keys(self) -> tuple[PseudonymKey, ...]:
        """The keys in use now, the newest first."""

    def pseudonym(self, visitor: str) -> str:
        """Returns what the visitor is called in the log from now on."""

    def pseudonyms(self, visitor: str) -> tuple[str, ...]:
        """Returns everything the visitor may be called in the log."""


@dataclass(frozen=True)
class Keyring:
    """The keys in use: the newest first, which new pseudonyms are made with."""

    keys: tuple[PseudonymKey, ...]

    def pseudonym(self, visitor: str) -> str:
        """Returns what the visitor is called in the log from now on."""
        return self.keys[0].pseudonym(visitor)

    def pseudonyms(self, visitor: str) -> tuple[str, ...]:
        """Returns everything the visitor may be called in the log."""
        return tuple(key.pseudonym(visitor) for key in self.keys)
