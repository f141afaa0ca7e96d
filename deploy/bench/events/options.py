"""What the bench of tracking measures, and for how long."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.arguments import add_load, add_servers, parser_of, positive

SQLITE, MEMORY, REDIS = "sqlite", "memory", "redis"
STORES = (SQLITE, MEMORY, REDIS)
DESCRIPTION = """\
Measures what it costs to know what a visitor just did, and how soon answers know it.

It starts everything itself: the embedded Triton with a release, Redis, and a shopintent-server for
each store of sessions: sqlite (the default), memory, and redis where redis-server is installed.
Measured are

  predict_intent   intents of visitors with tracked events, the measure of all cost
  track_1          TrackEvents with one event a call
  track_10         TrackEvents with ten
  freshness        from TrackEvents on one server to an answer of another that knows the event:
                   both calls, one after the other, the answer given the consistency token
  stream           StreamIntents: from an event to the intent after it

h2load keeps calls in flight, in rounds that measure every cell once: ratios are within a round.
Its events carry no ids, for it repeats what it sends; those of `freshness` do. Every answer of
`freshness` and `stream` must be what is predicted of the visitor with the event, and not what was
predicted before; how many were is counted. All of it shares the processors of this machine, the
load included: compare ratios.
"""
EPILOG = """\
examples:
  make bench-events                                 everything, in about six minutes
  make bench-events ARGS='--quick'                  a first look, in about one
  make bench-events ARGS='--stores sqlite'          one store
  make bench-events ARGS='--server-option=--session-durability=process'
"""


@dataclass(frozen=True)
class Options:
    """Everything that can be chosen."""

    stores: tuple[str, ...]
    in_flight: tuple[int, ...]
    batches: tuple[int, ...]
    """Events of a call."""
    rounds: int
    seconds: float
    """Measured of every cell, in every round."""
    visitors: int
    events: int
    """Tracked of each visitor before."""
    trials: int
    """Of freshness, for each store and number of visitors at once."""
    at_once: tuple[int, ...]
    """Visitors of whom freshness is measured at a time."""
    release: Path | None
    """A releases root; None makes one."""
    server_options: tuple[str, ...]
    out: Path


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Returns the options of a command line."""
    parser = parser_of("python -m deploy.bench.events", DESCRIPTION, EPILOG)
    add = parser.add_argument
    add(
        "--stores",
        nargs="+",
        choices=STORES,
        help="where sessions are kept; default: all, redis where redis-server is installed",
    )
    add(
        "--batches",
        type=positive,
        nargs="+",
        metavar="N",
        default=[1, 10],
        help="events of a call, at most 100; default 1 10",
    )
    add_load(add, in_flight="default 1 16 64", seconds="default 3, quick 1")
    add(
        "--trials",
        type=positive,
        metavar="N",
        help="of freshness and of stream; default 2000, quick 200",
    )
    add(
        "--at-once",
        type=positive,
        nargs="+",
        metavar="N",
        default=[1, 8],
        help="visitors of whom freshness is measured at a time; default 1 8",
    )
    add_servers(add)
    given = parser.parse_args(arguments)
    quick = given.quick
    installed = [each for each in STORES if each != REDIS or shutil.which("redis-server")]
    return Options(
        stores=tuple(dict.fromkeys(given.stores or installed)),
        in_flight=tuple(sorted(set(given.in_flight or [1, 16, 64]))),
        batches=tuple(sorted(set(given.batches))),
        rounds=given.rounds or (1 if quick else 3),
        seconds=given.seconds or (1.0 if quick else 3.0),
        visitors=given.visitors or (200 if quick else 1_000),
        events=given.events,
        trials=given.trials or (200 if quick else 2_000),
        at_once=tuple(sorted(set(given.at_once))),
        release=given.release,
        server_options=tuple(given.server_option),
        out=given.out,
    )
