"""`make demo`: from a log to live answers. `make serve`: the same server, to try by hand."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from deploy.demo import screen
from deploy.demo.pipeline import Workplace, train_release
from deploy.demo.play import play
from deploy.demo.processes import ProcessError
from deploy.demo.stack import serving
from deploy.demo.visit import choose_visit
from shopintent.client import ShopIntentClient, ShopIntentError
from shopintent.trainer.data import Dataset

PORT = 50051
INTERRUPTED = 130


def main() -> int:
    console = screen.console()
    arguments = parse()
    # Ending the demo in any way ends its processes: finally blocks run.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        arguments.run(console, arguments)
    except KeyboardInterrupt:
        console.print("stopped")
        return 0 if arguments.run is serve else INTERRUPTED
    except (ProcessError, ShopIntentError) as error:
        console.print("\n[bold red]the demo failed:[/]", Text(str(error)))
        return 1
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="{play,serve}")
    playing = commands.add_parser("play", help="train, serve, and play one shopper's visit")
    playing.add_argument("--log", type=Path, help="file or folder; default: a simulated shop")
    playing.add_argument("--mapping", help="TOML file, or the name of a shipped mapping")
    playing.set_defaults(run=demo)
    keeping = commands.add_parser("serve", help="keep the server of the last demo running")
    keeping.add_argument("--port", type=int, default=PORT, help="default %(default)s")
    keeping.set_defaults(run=serve)
    return parser.parse_args()


def demo(console: Console, arguments: argparse.Namespace) -> None:
    """Runs everything from the log to the last answer."""
    workplace = Workplace.of(arguments.log, arguments.mapping)
    train_release(console, workplace)
    console.rule("[bold]serve[/]", align="left")
    with (
        console.status("") as status,
        serving(workplace.releases, workplace.logs, say=status.update) as stack,
        ShopIntentClient(stack.address, insecure=True) as client,
    ):
        status.stop()
        visit = choose_visit(
            Dataset.open(workplace.prepared).events(), cut_time=workplace.cut_time()
        )
        told = "held out from training" if visit.held_out else "seen in training: none was held out"
        console.rule(
            f"[bold]a visit of shopper {escape(visit.shopper_id)}[/], {told}", align="left"
        )
        play(console, client, visit)
    workplace.remember()
    console.print("done; `make serve` keeps this shop's server running", style="green")


def serve(console: Console, arguments: argparse.Namespace) -> None:
    """Keeps Triton and the server of the last demo running until Ctrl-C."""
    workplace = Workplace.last()
    with (
        console.status("") as status,
        serving(
            workplace.releases, workplace.logs, port=arguments.port, say=status.update
        ) as stack,
    ):
        status.stop()
        console.print(f"[bold green]ready:[/] {workplace.name} on {stack.address}; Ctrl-C ends it")
        console.print("try, in another terminal:")
        for example in ("predict_intent.py", "recommend.py"):
            console.print(
                f"  {sys.executable} clients/python/examples/{example} {stack.address} visitor-1",
                soft_wrap=True,
            )
        while True:
            stack.server.check()
            stack.triton.check()
            time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main())
