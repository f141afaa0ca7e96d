"""Deletion of a visitor from Redis, its files included, and the search for one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from shopintent.artifacts.event_log import LOGIN
from shopintent.server import byte_search
from shopintent.server.sessions import Deleted
from shopintent.server.sessions.redis.files import files_here, write_anew
from shopintent.server.sessions.redis.layout import PREFIX
from shopintent.server.sessions.redis.link import Refused, Server, Value
from shopintent.server.sessions.redis.state import RedisState

MAX_HOPS = 8
KEYS_AT_ONCE = 500
SEARCHED_ANYWHERE = 16
"""Characters from which on an id is searched among all bytes, whatever kind of key it is in."""
READ = {
    b"hash": ("HGETALL",),
    b"zset": ("ZRANGE", 0, -1),
    b"stream": ("XRANGE", "-", "+"),
    b"string": ("GET",),
}
"""By the type of a key, the command that reads all of it."""


async def delete(state: RedisState, visitor: str) -> Deleted:
    """Forgets a visitor and everybody joined with them. Raises StateUnavailable.

    A deletion that was cut short can be repeated: the visitor, who knows the aliases, goes last.
    """
    root, aliases = await _joined_with(state, visitor)
    waiting = [*aliases, root]
    await _unname_devices(state, waiting)
    n_events, n_records, n_links, erased = 0, 0, 0, dict[str, None]()
    while waiting:
        name = waiting.pop(0)
        n_held, n_waiting, known = await _erase(state, name)
        n_events += n_held
        n_records += n_waiting
        n_links += len(known)
        erased[name] = None
        # Joined meanwhile, by a call that is under way.
        late = {each.decode() for each in known} - {*erased, *waiting}
        waiting = [*sorted(late), *waiting]
    await state.link.on_every_server(write_anew, replicas=True)
    return Deleted(tuple(reversed(erased)), max(n_events, n_records), n_links)


async def find(state: RedisState, visitor: str) -> Deleted:
    """Returns how often a visitor occurs in what Redis holds, and in its files where it is here.

    Everything is read: it takes minutes where Redis is large. Raises StateUnavailable.
    """
    root, aliases = await _joined_with(state, visitor)
    names = dict.fromkeys([visitor, root, *aliases])
    found = 0

    async def search(server: Server) -> None:
        nonlocal found
        keys = [key async for key in _keys(server)]
        texts = _searched(state, [*names], keys)
        for key in keys:
            found += byte_search.count_in(await _read(server, key), texts)
        try:
            files = await files_here(server)
            found += await asyncio.to_thread(byte_search.count, files, texts)
        except Refused:  # It keeps them to itself.
            pass

    await state.link.on_every_server(search)
    return Deleted((*names,), found, len(names) - 1)


def _searched(state: RedisState, names: list[str], keys: list[bytes]) -> dict[str, list[str]]:
    """Returns the texts that a visitor is known by, each with the keys that it is a part of."""
    ids = (name.partition(":")[2] for name in names)
    texts = [*names, *(each for each in ids if len(each) >= SEARCHED_ANYWHERE)]
    held = [key.decode().split(":", 3)[-1] for key in keys if b":visitor:" in key]
    # "user:4" is also among the bytes of "user:42".
    searched = {text: [each for each in held if text in each and text != each] for text in texts}
    return searched | {each: [] for name in names for each in state.pseudonyms(name)}


async def _joined_with(state: RedisState, visitor: str) -> tuple[str, list[str]]:
    """Returns the visitor that a key means, and every alias of theirs."""
    names = [visitor]
    for _ in range(MAX_HOPS):
        place = state.layout.place(names[-1])
        means, _, aliases = await state.link.run("look", place.keys, [])
        if not means:
            break
        names.append(means.decode())
    *links, root = names
    return root, [*dict.fromkeys([*links, *(each.decode() for each in aliases)])]


async def _unname_devices(state: RedisState, names: list[str]) -> None:
    """Drops records that wait from before a login of the visitor, of whatever device it was.

    Somebody else may have the device by now, or the sessions may have forgotten it.
    """
    until: list[Value] = []
    for name in names:
        pseudonyms, partition = state.pseudonyms(name), state.layout.place(name).partition
        found = await state.link.run("logins", [partition.log], pseudonyms) if pseudonyms else []
        for number, line in zip(found[::2], found[1::2], strict=True):
            login = json.loads(line)
            if login["event_type"] == LOGIN and login["shopper"] in pseudonyms:
                until += [login["alias"], number]
    if until:
        # All at once, so that it is one round trip.
        await asyncio.gather(
            *(
                state.link.run(
                    "unname", [each.itself, each.log, f"{each.log}:anew"], until, replicated=True
                )
                for each in state.layout.partitions
            )
        )


async def _erase(state: RedisState, visitor: str) -> tuple[int, int, list[bytes]]:
    """Returns how many events and records of a key went, and its aliases."""
    place = state.layout.place(visitor)
    partition = place.partition
    n_held, n_records, aliases = await state.link.run(
        "erase",
        [
            partition.itself,
            *place.keys,
            partition.feed,
            partition.log,
            f"{partition.log}:anew",
            partition.seen,
        ],
        [*state.limits_of(place), *state.pseudonyms(visitor)],
        replicated=True,
    )
    return n_held, n_records, aliases


async def _keys(server: Server) -> AsyncIterator[bytes]:
    cursor = b"0"
    while True:
        cursor, keys = await server.execute_command(
            "SCAN", cursor, "MATCH", f"{PREFIX}*", "COUNT", KEYS_AT_ONCE
        )
        for key in keys:
            yield key
        if int(cursor) == 0:
            return


async def _read(server: Server, key: bytes) -> bytes:
    """Returns the name of a key and all that it holds."""
    kind = await server.execute_command("TYPE", key)
    if kind not in READ:
        return key
    command, *rest = READ[kind]
    return b"\n".join([key, *_texts(await server.execute_command(command, key, *rest))])


def _texts(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from _texts(each)
