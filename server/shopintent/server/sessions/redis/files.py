"""The files of Redis: written anew after a deletion, so that they hold no byte of the deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from shopintent.server.sessions.redis.link import Refused, Server, unavailable

LOOK_S = 0.05
BUSY = ("in progress", "in background", "scheduled")
"""What Redis says when it is writing already: that file may be of before."""


async def write_anew(server: Server) -> None:
    """Has a server write its append-only file and its snapshot anew, and waits until it did.

    Raises StateUnavailable when it does not, as then the old files keep what was deleted.
    """
    info = await _persistence(server)
    if info["aof_enabled"]:
        await _write(server, "BGREWRITEAOF")
        _expect_ok(await _persistence(server), "aof_last_bgrewrite_status", "BGREWRITEAOF")
    if info.get("rdb_saves", 1) or (await setting(server, "save")):
        await _write(server, "BGSAVE")
        _expect_ok(await _persistence(server), "rdb_last_bgsave_status", "BGSAVE")


async def files_here(server: Server) -> list[Path]:
    """Returns a server's files, where it runs on this machine. Raises Refused."""
    folder = Path(await setting(server, "dir"))
    names = [await setting(server, name) for name in ("appenddirname", "dbfilename")]
    info = await server.execute_command("INFO", "server")
    paths = [folder / name for name in names if name]
    return await asyncio.to_thread(_files_of, info["process_id"], paths)


async def setting(server: Server, name: str) -> str:
    """Returns a setting of a server; empty when it has none such. Raises Refused."""
    found = await server.execute_command("CONFIG GET", name)
    pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
    texts = {_text(key): _text(value) for key, value in pairs}
    return texts.get(name, "")


async def _write(server: Server, command: str) -> None:
    """Starts writing, after what is being written, and waits for the end of it."""
    while True:
        await _wait_until_idle(server)
        try:
            await server.execute_command(command)
            break
        except Refused as error:
            if not any(each in str(error) for each in BUSY):
                why = (
                    f"{command} was refused, so its files may hold what was deleted until it "
                    f"writes them anew: {error}"
                )
                raise unavailable(why) from error
    await _wait_until_idle(server)


async def _wait_until_idle(server: Server) -> None:
    names = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
    while True:
        info = await _persistence(server)
        if not any(info.get(name) for name in names):
            return
        await asyncio.sleep(LOOK_S)


async def _persistence(server: Server) -> dict[str, Any]:
    info: dict[str, Any] = await server.execute_command("INFO", "persistence")
    return info


def _expect_ok(info: dict[str, Any], name: str, command: str) -> None:
    if info.get(name, "ok") != "ok":
        raise unavailable(f"{command} failed; its log says why")


def _files_of(process_id: int, paths: list[Path]) -> list[Path]:
    command = Path(f"/proc/{process_id}/comm")
    if not command.exists() or not command.read_text().startswith("redis"):
        return []  # A machine elsewhere has files of these names.
    return [each for path in paths for each in (path, *path.glob("*")) if each.is_file()]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
