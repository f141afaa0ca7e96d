"""`make bench-events`: what tracking costs, and how soon answers know what was tracked."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import grpc
from rich.console import Console
from rich.text import Text

from deploy.bench import h2load, machine, report
from deploy.bench.events import plot, tracking
from deploy.bench.events.freshness import Fresh, measure_freshness, measure_streams
from deploy.bench.events.gateways import Gateways, serving_each
from deploy.bench.events.options import Options, parse
from deploy.bench.events.report import sections
from deploy.bench.load import LoadError
from deploy.bench.release import bench_release
from deploy.bench.rounds import measure_rounds
from deploy.bench.visitors import Visitor, make_visitors, track
from deploy.demo.processes import ProcessError
from deploy.demo.screen import console as wide_console
from deploy.demo.stack import triton
from shopintent.artifacts import ReleasesRoot, read_products
from shopintent.behavior import Product
from shopintent.client import ShopIntentClient, ShopIntentError

INTERRUPTED = 130


def main() -> int:
    console, options = wide_console(), parse()
    # Ending the bench in any way ends its processes: finally blocks run.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        started = time.monotonic()
        found = bench(console, options)
        report.show(console, sections(found))
        written = write(found, options.out)
    except KeyboardInterrupt:
        console.print("stopped")
        return INTERRUPTED
    except (LoadError, ProcessError, ShopIntentError, grpc.RpcError) as error:
        console.print("\n[bold red]the bench failed:[/]", Text(str(error)))
        return 1
    console.print(f"{' '.join(map(str, written))}: after {time.monotonic() - started:.0f} s")
    return 0


def bench(console: Console, options: Options) -> report.Json:
    """Starts everything, measures, and returns what the JSON file holds."""
    h2load.find()
    releases = (
        bench_release(console, options.out / "release")
        if options.release is None
        else ReleasesRoot(options.release)
    )
    release_id = releases.current()
    assert release_id is not None, f"{releases.path} names no current release"
    products = [each.product for each in read_products(releases.release(release_id))]
    folder = options.out / "events"
    with ExitStack() as running:
        with console.status("starting Triton") as status:
            _, address = running.enter_context(triton(releases, release_id, folder / "logs"))
            gateways = running.enter_context(
                serving_each(
                    options.stores,
                    releases,
                    address,
                    folder,
                    options.server_options,
                    status.update,
                )
            )
        found = measure(console, options, gateways, products)
    arguments = f" ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else ""
    return {
        "commit": machine.commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"make bench-events{arguments}",
        "machine": machine.describe(),
        **found,
    }


def measure(
    console: Console,
    options: Options,
    gateways: dict[str, Gateways],
    products: list[Product],
) -> report.Json:
    """Returns the tables' rows: freshness while nothing else is asked, then throughput."""
    visitors = make_visitors(
        products,
        n_visitors=options.visitors,
        n_events=options.events,
        newest_time=int(time.time()),
    )
    with ExitStack() as opened:
        clients = {
            store: opened.enter_context(ShopIntentClient(each.address, insecure=True))
            for store, each in gateways.items()
        }
        for store, each in gateways.items():
            with console.status(f"tracking {len(visitors):,} visitors: {store}"):
                track(clients[store], visitors)
                if each.sharing[0] != each.address:
                    with ShopIntentClient(each.sharing[0], insecure=True) as other:
                        track(other, visitors)
        fresh = [
            asdict(row)
            for each in gateways.values()
            for row in measure_fresh(console, options, each, visitors, products)
        ]
        cells = tracking.planned(options, gateways, clients, visitors, products)
        measured, wrong = measure_rounds(console, "closed loops", cells, options.rounds)
    return {"rows": tracking.rows(measured, wrong), "fresh": fresh}


def measure_fresh(
    console: Console,
    options: Options,
    gateways: Gateways,
    visitors: list[Visitor],
    products: list[Product],
) -> list[Fresh]:
    """Returns how soon answers of one store know, with calls and with streams."""
    found = []
    for at_once in options.at_once:
        for how in (measure_freshness, measure_streams):
            with console.status(f"how soon answers know: {gateways.store}, {at_once} at once"):
                row = how(gateways, visitors, products, trials=options.trials, at_once=at_once)
            found += [row] if row is not None else []
    return found


def write(found: report.Json, folder: Path) -> list[Path]:
    """Writes the results as JSON, Markdown and a picture; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"events.{kind}" for kind in ("json", "md", "png")]
    parts = [file.with_name(f".part.{file.name}") for file in files]
    parts[0].write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    parts[1].write_text(report.markdown(found, sections(found)), encoding="utf-8")
    plot.draw(found["rows"], found["fresh"], parts[2])
    for part, file in zip(parts, files, strict=True):
        part.replace(file)
    return files


if __name__ == "__main__":
    sys.exit(main())
