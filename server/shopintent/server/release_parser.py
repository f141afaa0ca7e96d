"""The command line of `shopintent-server releases`; it loads nothing that a supervisor must not."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from shopintent.artifacts.routing import MAX_WHY

OPTIONS = (
    "releases",
    "releases_url",
    "triton_address",
    "triton_http_address",
    "index",
    "index_path",
    "qdrant_url",
    "qdrant_api_key_file",
    "check_timeout_s",
)
"""Options of the server that say where releases, Triton and the index are."""

DESCRIPTION = """\
Shifts traffic between releases. A release is what one training made: tokenizer, models and
product collection that belong together. These commands change one file in the releases root, which
every server that shares it follows within 2 seconds; the usual rollout is

  shopintent-trainer publish run --to releases
  shopintent-server releases list                              which are there, which serves
  shopintent-server releases verify r2                         may it take traffic?
  shopintent-server releases shadow r2 --why "new model"       asked beside, answers nobody
  shopintent-server releases canary r2 --percent 5 --why ...   answers 5 % of the visitors; servers
                                                               roll it back when it does badly
  shopintent-server releases promote r2 --why ...              answers everybody
  shopintent-server releases rollback --why ...                back to the release before, at once
  shopintent-server releases audit                             who did what, and why

Run them where the releases root is, with the server's settings: they need no server, and whoever
may write there may run them. Set SHOPINTENT_TRITON_MODEL_CONTROL_KEY, as for the server, so that a
release can be loaded into Triton before it takes traffic. From another machine ask a server, by
ReleaseService and its token. Exit codes: 0 done, 1 refused or failed, 2 a mistake in the command.
"""


def add_releases(
    add: Callable[..., argparse.ArgumentParser], options: argparse.ArgumentParser
) -> None:
    """Adds the command with `add`; `options` are the flags of OPTIONS."""
    parser = add(
        "releases",
        help="list, check and shift traffic between releases",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, told: str, *, about: str | None = "RELEASE") -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name, parents=[options], help=told, description=told[0].upper() + told[1:] + ".",
            allow_abbrev=False,
        )  # fmt: skip
        if about is not None:
            made.add_argument("release_id", metavar=about, help="the id, as `list` shows it")
        made.add_argument("--json", action="store_true", help="print JSON, for programs")
        return made

    verb("list", "list the releases, newest first, and how traffic is routed", about=None)
    verb("show", "show what is known of a release: where it comes from, what was measured")
    verb(
        "verify",
        "load a release and check that it may take traffic: its files, its models in Triton, its "
        "products, and golden requests that must be answered as when it was trained",
    )
    shadow = verb("shadow", "have a release asked what a share of the visitors ask; nobody sees it")
    _add_percent(shadow, default=10.0)
    canary = verb("canary", "have a release answer a share of the visitors")
    _add_percent(canary, default=5.0)
    promote = verb("promote", "have a release answer everybody, and keep the one before ready")
    rollback = verb(
        "rollback",
        "end the canary and the shadow, or else have the release before serve again; with RELEASE, "
        "take just that one out of traffic",
        about=None,
    )
    rollback.add_argument("release_id", metavar="RELEASE", nargs="?", default="")
    delete = verb("delete", "delete a release that takes no part: files, models, products")
    for each in (shadow, canary, promote, rollback, delete):
        each.add_argument(
            "--why", type=_why, required=True, metavar="TEXT", help="for the audit log"
        )
    for each in (canary, promote):
        each.add_argument(
            "--force",
            action="store_true",
            help="go on although its metrics are worse than the serving release's; it is audited. "
            "A release that is not ready takes no traffic all the same",
        )
    audit = verb("audit", "show who changed the routing, newest last", about=None)
    audit.add_argument(
        "--last", type=_count, default=20, metavar="N", help="so many changes; 0: all. Default: 20"
    )


def _add_percent(parser: argparse.ArgumentParser, *, default: float) -> None:
    parser.add_argument(
        "--percent",
        type=_percent,
        default=default,
        metavar="P",
        help=f"of the visitors: above 0 and at most 100. Default: {default:g}",
    )


def _percent(text: str) -> float:
    percent = float(text.removesuffix("%"))
    if not 0 < percent <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 100")
    return percent


def _why(text: str) -> str:
    if not text.strip() or len(text) > MAX_WHY:
        raise argparse.ArgumentTypeError(f"say why in 1 to {MAX_WHY} characters")
    return text.strip()


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)
