"""Consistency tokens: a position in the session store as callers carry it, and nothing else."""

from __future__ import annotations

import base64
import zlib

CHECK_BYTES = 4


def consistency_token(position: str) -> str:
    """Returns the token of a position of at most 100 ASCII characters: at most 139 characters.

    Base64 of a checksum and the position. The checksum tells a token from any other text; it is no
    protection, and needs none: what a position names is the caller's own.
    """
    content = position.encode("ascii")
    return base64.urlsafe_b64encode(_check(content) + content).decode("ascii").rstrip("=")


def position_of(token: str) -> str:
    """Returns the position of a token. Raises ValueError for a text that is none."""
    padded = token.encode("ascii") + b"=" * (-len(token) % 4)
    content = base64.b64decode(padded, altchars=b"-_", validate=True)
    check, position = content[:CHECK_BYTES], content[CHECK_BYTES:]
    if not position or check != _check(position):
        raise ValueError("is no consistency token")
    return position.decode("ascii")


def _check(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(CHECK_BYTES, "big")
