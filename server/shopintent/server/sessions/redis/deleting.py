"""Deletion of a visitor from Redis, its files included, and the search for one."""

from __future__ import annotations

from typing import Any

from shopintent.server.sessions import Deleted
from shopintent.server.sessions.redis.files import occurrences_in_files, write_anew
from shopintent.server.sessions.redis.layout import PREFIX
from shopintent.server.sessions.redis.link import Server
from shopintent.server.sessions.redis.state import RedisState

MAX_HOPS = 8
KEYS_AT_ONCE = 500
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
    """Returns under which keys a visitor is held, and how often they or their pseudonyms occur.

    Everything that Redis holds is read, and its files where they are on this machine.
    """
    root, aliases = await _joined_with(state, visitor)
    needles = [each.encode() for each in (visitor, *state.pseudonyms(visitor))]
    found = 0

    async def search(server: Server) -> None:
        nonlocal found
        found += await _occurrences(server, needles)
        found += await occurrences_in_files(server, needles)

    await state.link.on_every_server(search)
    n_links = len({root, *aliases} - {visitor})
    return Deleted((root, *aliases) if found or n_links else (), found, n_links)


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


async def _occurrences(server: Server, needles: list[bytes]) -> int:
    found, cursor = 0, b"0"
    while True:
        cursor, keys = await server.execute_command(
            "SCAN", cursor, "MATCH", f"{PREFIX}*", "COUNT", KEYS_AT_ONCE
        )
        for key in keys:
            kind = await server.execute_command("TYPE", key)
            if kind in READ:
                command, *rest = READ[kind]
                value = await server.execute_command(command, key, *rest)
                found += _count(needles, [key, value])
        if int(cursor) == 0:
            return found


def _count(needles: list[bytes], value: Any) -> int:
    """Returns how often needles occur in the texts of a value."""
    if isinstance(value, bytes):
        return sum(value.count(needle) for needle in needles)
    if isinstance(value, dict):
        return _count(needles, [*value.keys(), *value.values()])
    if isinstance(value, list | tuple | set):
        return sum(_count(needles, each) for each in value)
    return 0
