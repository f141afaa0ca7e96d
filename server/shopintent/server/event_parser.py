"""The command lines of `shopintent-server events` and `visitors`; they load nothing else."""

from __future__ import annotations

import argparse
from collections.abc import Callable

STATE_OPTIONS = (
    "releases",
    "state_path",
    "sessions",
    "session_durability",
    "redis_password_file",
    "redis_cluster",
    "redis_replicas",
    "redis_max_unlogged",
    "event_log",
    "event_log_days",
    "pseudonym_keys",
)
"""Options of the server that say where the behavior of visitors is kept."""

EVENTS = """\
Looks after the event log: what visitors did, under pseudonyms, for training to learn from.

Servers append to it, compact each day to Parquet once it is over, and remove days older than
EVENT_LOG_DAYS; `shopintent-trainer prepare LOG --mapping events` reads it, at any time.

  shopintent-server events status             what is there, and under which keys
  shopintent-server events compact            compact and remove now, not within a minute
  shopintent-server events rotate-key         name shoppers anew in records from now on; a shopper's
                                              history in the log is cut there
  shopintent-server events retire-key k1      forget a key that names nobody in the log any more

Pseudonyms are hashes of shoppers' ids with a secret key. Whoever has the file PSEUDONYM_KEYS can
tell whom a record is about; without it nobody can delete a shopper from the log, so keep a copy,
apart from the log's. Rotate it every year, or when it may have leaked: the old key stays, for
deletions, until retention has removed its records. Running servers follow within 2 seconds.

Run them where the log is, with the server's settings, whether servers run or not. Exit codes: 0
done, 1 refused or failed, 2 a mistake in the command.
"""

VISITORS = """\
Deletes what is known of a visitor, and proves it.

  shopintent-server visitors delete --user-id 4711 --visitor-id 0c0ffee0-...
  shopintent-server visitors verify --user-id 4711 --visitor-id 0c0ffee0-...

`delete` removes a visitor from the sessions, the event log and the counters of what is popular,
with whom they were joined at login, and so from every later training set; events from before that
arrive within 24 hours are dropped. It prints a receipt. `verify` searches every store: rows, and
every byte of the files; it exits with 1 when it finds something. Name every id that is known of the
visitor: after a deletion nobody knows any more which ids were one visitor's.

Files are rewritten, so both may take minutes. Run them where the sessions and the log are, with the
server's settings, whether servers run or not; from another machine ask a server, by VisitorService
and its token. Exit codes: 0 done, 1 failed or found, 2 a mistake in the command.
"""


def add_events(
    add: Callable[..., argparse.ArgumentParser], options: argparse.ArgumentParser
) -> None:
    """Adds `events` with `add`; `options` are the flags of STATE_OPTIONS."""
    verb = _verbs(
        add("events", help="look after the event log and its keys", **_described(EVENTS)), options
    )
    verb("status", "show what the log holds, a line a day, and which keys name its shoppers")
    verb("compact", "compact finished days and remove those past retention, now")
    verb("rotate-key", "make a new key, which names shoppers in records from now on")
    retire = verb("retire-key", "remove a key that no record in the log needs any more")
    retire.add_argument("key_id", metavar="KEY", help="such as k1, as `status` shows it")


def add_visitors(
    add: Callable[..., argparse.ArgumentParser], options: argparse.ArgumentParser
) -> None:
    """Adds `visitors` with `add`; `options` are the flags of STATE_OPTIONS."""
    verb = _verbs(
        add("visitors", help="delete a visitor, or prove it", **_described(VISITORS)), options
    )
    for name, told in (
        ("delete", "delete a visitor from every store and print a receipt"),
        ("verify", "search every store for a visitor"),
    ):
        made = verb(name, told)
        for each in ("user", "visitor", "session"):
            made.add_argument(
                f"--{each}-id", default="", metavar="ID", help=f"the {each}_id of their events"
            )


def _described(description: str) -> dict[str, object]:
    return {
        "description": description,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _verbs(
    parser: argparse.ArgumentParser, options: argparse.ArgumentParser
) -> Callable[[str, str], argparse.ArgumentParser]:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, told: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name, parents=[options], help=told, description=told[0].upper() + told[1:] + ".",
            allow_abbrev=False,
        )  # fmt: skip
        made.add_argument("--json", action="store_true", help="print JSON, for programs")
        return made

    return verb
