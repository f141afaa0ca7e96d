"""What the comparison with peers measures, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.arguments import add_load, add_servers, parser_of
from deploy.bench.peers.peers import PEERS, Peer, by_name

DESCRIPTION = """\
Compares PredictIntent with what a team would otherwise write around the same ONNX model:
FastAPI, LitServe, Ray Serve and BentoML, each the way its documentation recommends for throughput
and in an environment of its own under .peers/serving (about 1.3 GB, made at the first run).

Peers are sent one shopper's behavior as JSON (tokens and times) and answer with what PredictIntent
says. Answers are checked against onnxruntime first. Each peer is first tried with a few settings;
those that answer most at 64 in flight are measured. Everything is started anew in every round and
is alone on the machine with h2load. Ours is Triton and shopintent-server without special settings,
asked twice: with the behavior tracked before, and with all events in the request.
"""
EPILOG = """\
examples:
  make bench-peers                              everything, in about a quarter of an hour
  make bench-peers ARGS='--only fastapi'        one peer
  make bench-peers ARGS='--quick'               one round of a second a cell: noisy
  make bench-peers ARGS='--set-up'              only make the environments
"""


@dataclass(frozen=True)
class Options:
    """The command line."""

    peers: tuple[Peer, ...]
    set_up_only: bool
    in_flight: tuple[int, ...]
    rounds: int
    seconds: float
    """Measured of every target and load, in every round."""
    visitors: int
    events: int
    """Of each visitor."""
    release: Path | None
    """A releases root; None makes the one that `make bench` measures."""
    server_options: tuple[str, ...]
    out: Path


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Returns the options of a command line."""
    parser = parser_of("python -m deploy.bench.peers", DESCRIPTION, EPILOG)
    add = parser.add_argument
    names = [peer.name for peer in PEERS]
    add("--only", choices=names, nargs="+", default=names, help="these peers; default: all")
    add("--set-up", action="store_true", help="make the environments and measure nothing")
    add_load(add, in_flight="default 1 16 64", seconds="default 4, quick 1")
    add_servers(add)
    given = parser.parse_args(arguments)
    return Options(
        peers=tuple(by_name(name) for name in names if name in given.only),
        set_up_only=given.set_up,
        in_flight=tuple(sorted(set(given.in_flight or [1, 16, 64]))),
        rounds=given.rounds or (1 if given.quick else 3),
        seconds=given.seconds or (1.0 if given.quick else 4.0),
        visitors=given.visitors or (200 if given.quick else 1_000),
        events=given.events,
        release=given.release,
        server_options=tuple(given.server_option),
        out=given.out,
    )
