"""What is left of a visitor who was deleted: enough to know them again, and no more.

A tombstone is a hash under a secret of the store's own, so it is neither the key nor the pseudonym
of the event log, and two stores have different ones.
"""

from __future__ import annotations

import hashlib

SECRET_BYTES = 32
_PURPOSE = b"tombstone"


def tombstone(visitor: str, secret: bytes) -> bytes:
    """Returns the tombstone of a visitor's key (BLAKE2b, RFC 7693, keyed and personalized)."""
    digest = hashlib.blake2b(visitor.encode(), digest_size=16, key=secret, person=_PURPOSE)
    return digest.digest()
