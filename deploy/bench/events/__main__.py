"""`make bench-events`: what tracking costs, and how soon answers know what was tracked."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from deploy.bench import h2load, machine, program, report
from deploy.bench.events import plot, tracking
from deploy.bench.events.freshness import Fresh, measure_freshness, measure_streams
from deploy.bench.events.gateways import Gateways, serving_each
from deploy.bench.events.options import Options, parse
from deploy.bench.events.report import sections
from deploy.bench.rounds import measure_rounds
from deploy.bench.visitors import Visitor, make_visitors, track
from deploy.demo.stack import triton, triton_http_address
from shopintent.artifacts import read_products
from shopintent.behavior import Product
from shopintent.client import ShopIntentClient


def main() -> int:
    options = parse()

    def work(console: Console) -> list[Path]:
        found = bench(console, options)
        report.show(console, sections(found))
        return write(found, options.out)

    return program.run(work)


def bench(console: Console, options: Options) -> report.Json:
    """Starts everything, measures, and returns what the JSON file holds."""
    h2load.find()
    releases = program.releases_of(console, options.release, options.out)
    release_id = releases.current()
    assert release_id is not None, f"{releases.path} names no current release"
    products = [each.product for each in read_products(releases.release(release_id))]
    folder = options.out / "events"
    with ExitStack() as running:
        with console.status("starting Triton") as status:
            logs = folder / "logs"
            _, address = running.enter_context(triton(releases, release_id, logs))
            gateways = running.enter_context(
                serving_each(
                    options.stores,
                    releases,
                    address,
                    triton_http_address(logs),
                    folder,
                    options.server_options,
                    status.update,
                )
            )
        found = measure(console, options, gateways, products)
    return {
        "commit": machine.commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": program.command("bench-events"),
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
    """Writes the results as JSON, Markdown and a picture, all or none."""
    text = report.markdown(found, sections(found))
    return program.write_all(
        folder,
        {
            "events.json": lambda part: part.write_text(json.dumps(found, indent=2) + "\n"),
            "events.md": lambda part: part.write_text(text, encoding="utf-8"),
            "events.png": lambda part: plot.draw(found["rows"], found["fresh"], part),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
