"""What `shopintent-server releases` does: it works on the releases root, without a server."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

from shopintent.artifacts import ReleaseError
from shopintent.artifacts.remote import remote_release_ids
from shopintent.artifacts.routing import (
    Routing,
    RoutingError,
    read_audit,
    read_routing,
    whoami,
)
from shopintent.server.config import Config
from shopintent.server.errors import ShopIntentError
from shopintent.server.release_control import managing_releases
from shopintent.server.release_tables import (
    audit_table,
    release_json,
    release_text,
    releases_table,
    routing_text,
)
from shopintent.server.releases.manager import Reason, ReleaseManager, ReleaseStatus


def run_releases(parsed: argparse.Namespace, config: Config) -> int:
    """Runs one of the commands and returns its exit code, 1 for what was refused or failed."""
    try:
        told, data = asyncio.run(_run(parsed, config))
    except (ReleaseError, RoutingError, ShopIntentError, OSError) as error:
        print(f"shopintent-server: {error}", file=sys.stderr)
        return 1
    print(json.dumps(data, indent=2) if parsed.json else told)
    return 0


async def _run(parsed: argparse.Namespace, config: Config) -> tuple[str, Any]:
    """Returns what to print for people, and the same for programs."""
    async with managing_releases(config) as manager:
        match parsed.verb:
            case "list":
                return _list(manager, config)
            case "show":
                status = manager.status(parsed.release_id)
                return release_text(status), release_json(status)
            case "audit":
                entries = read_audit(manager.root.path)[-parsed.last :]
                return audit_table(entries), entries
            case "verify":
                _say_checking(parsed.release_id)
                await manager.verify(parsed.release_id)
                told = f"{parsed.release_id} is ready to take traffic"
                return told, {"release_id": parsed.release_id, "ready": True}
            case "delete":
                await manager.delete(parsed.release_id, _reason(parsed))
                told = f"{parsed.release_id} is deleted"
                return told, {"release_id": parsed.release_id, "deleted": True}
            case _:
                routing = await _shift(parsed, manager)
                return routing_text(routing), _routing_json(routing)


async def _shift(parsed: argparse.Namespace, manager: ReleaseManager) -> Routing:
    """Makes a change of the routing and returns it."""
    release_id, reason = parsed.release_id, _reason(parsed)
    if parsed.verb == "rollback":
        before = read_routing(manager.root.path)
        routing = manager.rollback(reason, release_id)
        if routing == before:
            print(f"{release_id} takes no part; nothing changed", file=sys.stderr)
        return routing
    _say_checking(release_id)
    match parsed.verb:
        case "shadow":
            return await manager.shadow(release_id, parsed.percent, reason)
        case "canary":
            return await manager.canary(release_id, parsed.percent, reason)
        case _:
            return await manager.promote(release_id, reason)


def _list(manager: ReleaseManager, config: Config) -> tuple[str, Any]:
    releases: list[ReleaseStatus] = []
    damaged: dict[str, str] = {}
    release_ids = manager.root.release_ids()
    for release_id in release_ids:
        try:
            releases.append(manager.status(release_id))
        except ReleaseError as error:
            damaged[release_id] = str(error)
    there = remote_release_ids(config.releases_url) if config.releases_url else []
    elsewhere = [each for each in there if each not in release_ids]
    releases.sort(key=lambda each: each.manifest.created_at, reverse=True)
    routing = read_routing(manager.root.path)
    data = {
        "releases": [release_json(each) for each in releases],
        "damaged": damaged,
        "elsewhere": elsewhere,
        "routing": _routing_json(routing),
    }
    return releases_table(releases, damaged, elsewhere, routing), data


def _say_checking(release_id: str) -> None:
    """Loading a release takes a while, of which nothing else would be seen."""
    told = "its files, models, products and golden answers"
    print(f"checking {release_id}: {told} ...", file=sys.stderr, flush=True)


def _reason(parsed: argparse.Namespace) -> Reason:
    return Reason(whoami(), parsed.why, forced=getattr(parsed, "force", False))


def _routing_json(routing: Routing | None) -> Any:
    return None if routing is None else asdict(routing)
