"""shopintent-server: serves one release, loads its index, or asks a server for its health."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from shopintent.server import event_parser, release_parser
from shopintent.server.config import Config, ConfigError, help_of, read_config
from shopintent.server.logs import log_to_stderr
from shopintent.server.workers import supervise

DESCRIPTION = """\
Answers what shoppers mean to do next, and what to show them, over gRPC.

  shopintent-server serve        serve the current release until SIGTERM
  shopintent-server load-index   load the release's products into the index (once a release,
                                 for a Qdrant server; the edge index is loaded by serve)
  shopintent-server health       exit with 0 when a running server may answer, else with 1
  shopintent-server releases     list, check and shift traffic between releases: shadow, canary,
                                 promote, rollback; `releases --help` shows the usual rollout
  shopintent-server events       look after the log of what visitors did, and its keys
  shopintent-server visitors     delete a visitor from every store, or prove it

Every option is an environment variable too; `shopintent-server serve --help` lists them.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 success, 1 failure, 2 bad configuration."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parsed = _parser().parse_args(arguments)
    try:
        config = read_config(os.environ, vars(parsed))
        if parsed.command == "serve" and config.workers > 1:
            log_to_stderr(config.log_level)
            return supervise(config, arguments, parsed.ready_file)
        # Not before: a supervisor loads no gRPC.
        from shopintent.server import commands

        return commands.run(parsed, config)
    except ConfigError as error:
        print(f"shopintent-server: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    options = _options(*(option.name for option in fields(Config)))
    parser = argparse.ArgumentParser(
        prog="shopintent-server",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=metadata.version("shopintent"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Without abbreviations --qdrant-api-key can not be taken for --qdrant-api-key-file.
    add = partial(commands.add_parser, allow_abbrev=False)
    serve = add("serve", parents=[options], help="serve the current release")
    serve.add_argument(
        "--ready-file",
        type=Path,
        metavar="PATH",
        help="JSON file written once listening, with the address and the release's id",
    )
    serve.add_argument("--worker", help=argparse.SUPPRESS)
    add("load-index", parents=[options], help="load products into the index")
    health = add(
        "health",
        parents=[options],
        help="check a running server",
        description="Asks the server at --listen. With TLS give the server's own files and, in "
        "--listen, a host that its certificate names.",
    )
    health.add_argument(
        "--service", default="", help="the name to ask for, such as dependency.triton"
    )
    health.add_argument(
        "--timeout-s", type=float, default=2.0, help="seconds to wait for the answer"
    )
    release_parser.add_releases(add, _options(*release_parser.OPTIONS))
    state_options = _options(*event_parser.STATE_OPTIONS)
    event_parser.add_events(add, state_options)
    event_parser.add_visitors(add, state_options)
    return parser


def _options(*names: str) -> argparse.ArgumentParser:
    """Returns the flags of some options."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in fields(Config):
        flag = "--" + option.name.replace("_", "-")
        # A secret on a command line would show in the list of processes.
        if option.name in names and not option.metadata["secret"]:
            help_text = help_of(option).replace("%", "%%")
            # A flag that is true or false may stand alone: --insecure.
            alone: dict[str, Any] = (
                {"nargs": "?", "const": "true"} if isinstance(option.default, bool) else {}
            )
            options.add_argument(flag, dest=option.name, metavar="VALUE", help=help_text, **alone)
    return options


if __name__ == "__main__":
    sys.exit(main())
