"""What a bench measures, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.arguments import add_load, add_servers, parser_of, positive
from shopintent.client.calls import TIMEOUT_S

GROWTH = (0, 8, 32, 128)
DESCRIPTION = """\
Measures how fast answers come, end to end, and checks that they are right.

It starts everything itself: the embedded Triton with a release, and a shopintent-server for each
number of products. h2load offers the load: calls kept in flight (a closed loop), or calls a second
(an open loop). Measured are

  triton           the intent model asked directly: one behavior a call, nothing in between
  predict_intent   the same behaviors, tracked before, through PredictIntent
  recommend        pages of 20 products with titles and prices, through Recommend
  health           a call of no content to the same server

and every answer's meaning is checked beside: PredictIntent against Triton, Recommend against an
exact search. A round measures every cell once; medians and spreads are over the rounds, ratios
within them. All of it shares the processors of this machine, the load included: compare ratios.
"""
EPILOG = """\
examples:
  make bench                                      everything, in about ten minutes
  make bench ARGS='--quick'                       a first look, in about two
  make bench ARGS='--products 50000 1000000'      a million products; indexing them takes minutes
  make bench ARGS='--growth'                      also: how cost grows with events per visitor
  make bench ARGS='--server-option=--workers=2'   another server configuration
  make bench ARGS='--release .demo/simulated/releases'   a release that exists
"""


@dataclass(frozen=True)
class Options:
    """Everything that can be chosen."""

    products: tuple[int, ...]
    """Collection sizes, ascending."""
    in_flight: tuple[int, ...]
    rounds: int
    seconds: float
    """Measured of every cell, in every round."""
    visitors: int
    events: int
    """Of each visitor."""
    growth: tuple[int, ...]
    """Events of the visitors by which growth is measured; none where it is not."""
    overload: bool
    deadline_s: float
    """Of the calls of the overload."""
    release: Path | None
    """A releases root; None makes one."""
    server_options: tuple[str, ...]
    out: Path

    @property
    def main_size(self) -> int:
        """The collection that ratios are about: 50,000 products where that is among them."""
        return 50_000 if 50_000 in self.products else self.products[-1]


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Returns the options of a command line."""
    parser = parser_of("python -m deploy.bench", DESCRIPTION, EPILOG)
    add = parser.add_argument
    add(
        "--products",
        type=positive,
        nargs="+",
        metavar="N",
        help="collection sizes; default 10000 50000, quick 10000",
    )
    add_load(add, in_flight="default 1 16 64 256, quick 1 64", seconds="default 3, quick 1")
    add(
        "--growth",
        type=int,
        nargs="*",
        metavar="N",
        help="also measure visitors with so many events; where none are given, 0 8 32 128",
    )
    add(
        "--no-overload",
        action="store_true",
        help="leave out three times the rate that the server can answer",
    )
    add(
        "--deadline",
        type=float,
        metavar="S",
        default=TIMEOUT_S,
        help="of a call in the overload; default %(default)s, that of the Python client",
    )
    add_servers(add)
    given = parser.parse_args(arguments)
    quick = given.quick
    return Options(
        products=tuple(sorted(set(given.products or ([10_000] if quick else [10_000, 50_000])))),
        in_flight=tuple(sorted(set(given.in_flight or ([1, 64] if quick else [1, 16, 64, 256])))),
        rounds=given.rounds or (1 if quick else 3),
        seconds=given.seconds or (1.0 if quick else 3.0),
        visitors=given.visitors or (200 if quick else 1_000),
        events=given.events,
        growth=() if given.growth is None else tuple(given.growth or GROWTH),
        overload=not given.no_overload,
        deadline_s=given.deadline,
        release=given.release,
        server_options=tuple(given.server_option),
        out=given.out,
    )
