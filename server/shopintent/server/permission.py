"""Who may shift traffic between releases, or delete visitors: whoever holds the server's token."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from shopintent.server.errors import CredentialsMissing, PermissionDenied

METADATA_KEY = "authorization"
SCHEME = "bearer"


@dataclass(frozen=True)
class Permission:
    """A token that callers must send; without one nobody is allowed anything."""

    token: str | None = field(repr=False)
    what: str
    """What it lets callers do, such as "manage releases"."""
    remedy: str
    """What to do on a server that was given no token."""

    def check(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Raises CredentialsMissing and PermissionDenied unless the metadata carries the token."""
        if self.token is None:
            raise PermissionDenied(
                f"this server lets nobody {self.what}, because it was given no token: {self.remedy}"
            )
        sent = _bearer_token(metadata)
        if sent is None:
            raise CredentialsMissing()
        # In constant time: how long it takes must not tell how much of a guess was right.
        if not hmac.compare_digest(sent.encode(), self.token.encode()):
            raise PermissionDenied("the token is another one than this server's")


def release_permission(token: str | None) -> Permission:
    """Returns who may call ReleaseService."""
    return Permission(
        token,
        "manage releases",
        "set SHOPINTENT_RELEASE_TOKEN_FILE, or use `shopintent-server releases` on its machine",
    )


def visitor_permission(token: str | None) -> Permission:
    """Returns who may call VisitorService."""
    return Permission(
        token,
        "delete visitors",
        "set SHOPINTENT_VISITOR_TOKEN_FILE, or use `shopintent-server visitors` on its machine",
    )


def _bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    for key, value in metadata:
        if key.lower() == METADATA_KEY and isinstance(value, str):
            scheme, _, token = value.strip().partition(" ")
            if scheme.lower() == SCHEME and token.strip():
                return token.strip()
    return None
