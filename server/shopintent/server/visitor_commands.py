"""What `shopintent-server visitors` does: it works on the stores themselves, beside any server."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from shopintent.server.config import Config, ConfigError
from shopintent.server.deletion import StoreCount, VisitorEraser
from shopintent.server.errors import ShopIntentError
from shopintent.server.event_commands import show_progress
from shopintent.server.release_tables import columns
from shopintent.server.services.convert import every_key
from shopintent.server.stores import open_event_log, open_pseudonyms, open_sessions
from shopintent.v1 import user_event_pb2

SESSIONS_TIMEOUT_S = 60.0
WITHOUT_BOUND = 1 << 40
"""For what this process must leave to servers: forgetting visitors for want of room or time."""


def run_visitors(parsed: argparse.Namespace, config: Config) -> int:
    """Runs one of the commands and returns its exit code. Raises ConfigError."""
    keys = every_key(
        user_event_pb2.Visitor(
            user_id=parsed.user_id, visitor_id=parsed.visitor_id, session_id=parsed.session_id
        )
    )
    if not keys:
        raise ConfigError("name the visitor with --user-id, --visitor-id or --session-id")
    if config.sessions == "memory":
        raise ConfigError(
            "SHOPINTENT_SESSIONS is memory, which only its server can reach: ask it with "
            "VisitorService, such as `Client.delete_visitor` does"
        )
    try:
        return asyncio.run(_run(parsed, config, keys))
    except (ShopIntentError, OSError) as error:
        print(f"shopintent-server: {error}", file=sys.stderr)
        return 1


async def _run(parsed: argparse.Namespace, config: Config, keys: Sequence[str]) -> int:
    async with _eraser(config) as eraser:
        if parsed.verb == "delete":
            receipt = await eraser.delete(keys, timeout_s=SESSIONS_TIMEOUT_S)
            when = datetime.fromtimestamp(receipt.delete_time, UTC).isoformat(timespec="seconds")
            _print(
                parsed.json,
                [f"receipt {receipt.receipt_id} of {when}", *_table(receipt.stores)],
                {**asdict(receipt), "delete_time": when},
            )
            return 0
        found = await eraser.verify(keys, timeout_s=SESSIONS_TIMEOUT_S)
    deleted = not any(each.count for each in found)
    told = "nothing is left of the visitor" if deleted else "the visitor was found"
    data = {"deleted": deleted, "stores": [asdict(each) for each in found]}
    _print(parsed.json, [told, *_table(found)], data)
    return 0 if deleted else 1


@asynccontextmanager
async def _eraser(config: Config) -> AsyncIterator[VisitorEraser]:
    config = replace(
        config,
        max_visitors=WITHOUT_BOUND,
        max_session_events=WITHOUT_BOUND,
        session_idle_s=float(WITHOUT_BOUND),
    )
    log = open_event_log(config, on_progress=show_progress)
    pseudonyms = open_pseudonyms(config)
    sessions = open_sessions(config, pseudonyms)
    try:
        yield VisitorEraser(sessions, pseudonyms, log)
    finally:
        await sessions.close()


def _table(stores: Sequence[StoreCount]) -> list[str]:
    rows = [(each.store, f"{each.count:,}", each.unit) for each in stores]
    return columns([("STORE", "COUNT", "OF"), *rows])


def _print(as_json: bool, told: Sequence[str], data: Any) -> None:
    print(json.dumps(data, indent=2) if as_json else "\n".join(told))
