"""The Lua scripts: each is one step that happens as a whole or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from shopintent.server.sessions import IDEMPOTENT_S
from shopintent.server.sessions.limits import FEED_S, MAX_ALIASES

NAMES = (
    "append", "arrive", "erase", "leave", "left", "logged", "logins", "look", "part", "recent",
    "unlink", "unname", "waiting",
)  # fmt: skip
CONSTANTS = {"DAY_S": IDEMPOTENT_S, "FEED_S": round(FEED_S), "MAX_ALIASES": MAX_ALIASES}


@dataclass(frozen=True)
class Script:
    """A script and the name by which Redis knows it once it has run."""

    text: bytes
    sha1: str


def read_scripts() -> dict[str, Script]:
    """Returns the scripts by name."""
    folder = resources.files(__package__) / "lua"
    constants = "".join(f"local {name} = {value}\n" for name, value in CONSTANTS.items())
    prelude = constants.encode() + (folder / "prelude.lua").read_bytes()
    texts = {name: prelude + (folder / f"{name}.lua").read_bytes() for name in NAMES}
    return {
        name: Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())
        for name, text in texts.items()
    }
