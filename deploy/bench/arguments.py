"""The options that every bench has, and what they are when nobody gives them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

OUT = Path("build/bench")


def parser_of(program: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Returns the parser of a bench, which has --quick already."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a first look, with one round of a second each: noisy. What is given beside it wins",
    )
    return parser


def add_load(add: Callable[..., argparse.Action], *, in_flight: str, seconds: str) -> None:
    """Adds what says how much load is offered, and for how long; the texts name defaults."""
    add("--in-flight", type=positive, nargs="+", metavar="N", help=f"calls in flight; {in_flight}")
    add(
        "--rounds",
        type=positive,
        metavar="N",
        help="how often every cell is measured; default 3, quick 1",
    )
    add(
        "--seconds",
        type=float,
        metavar="S",
        help=f"measured of every cell in every round; {seconds}",
    )
    add(
        "--visitors",
        type=positive,
        metavar="N",
        help="visitors whose calls take turns; default 1000, quick 200",
    )
    add(
        "--events",
        type=positive,
        metavar="N",
        default=20,
        help="of every visitor before; default %(default)s",
    )


def add_servers(add: Callable[..., argparse.Action]) -> None:
    """Adds what says which servers are measured, and where results go."""
    add(
        "--release",
        type=Path,
        metavar="ROOT",
        help="a releases root, whose serving release is measured; default: a release made for it",
    )
    add(
        "--server-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="given to every shopintent-server, such as --workers=2; may be repeated",
    )
    add("--out", type=Path, metavar="FOLDER", default=OUT, help="default %(default)s")


def positive(text: str) -> int:
    """Returns a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
