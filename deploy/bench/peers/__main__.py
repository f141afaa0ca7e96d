"""`make bench-peers`: PredictIntent, and what a team would otherwise write around its model."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.bench import h2load, machine, program
from deploy.bench.peers import contenders, report, results
from deploy.bench.peers.behaviors import Model
from deploy.bench.peers.compare import measure_rounds, tune
from deploy.bench.peers.contenders import Contender, Shop
from deploy.bench.peers.environments import NotSetUp, set_up, versions
from deploy.bench.peers.options import Options, parse
from deploy.bench.peers.peers import Peer, Settings, told
from deploy.bench.visitors import make_visitors
from shopintent.artifacts.products import read_first_products
from shopintent.behavior.vocabulary import UNKNOWN

VIEWED_PRODUCTS = 2_000

Json = dict[str, Any]


def main() -> int:
    options = parse()

    def work(console: Console) -> list[Path]:
        pythons = {peer: set_up(console, peer) for peer in options.peers}
        if options.set_up_only:
            return []
        found = compare(console, options, pythons)
        report.show(console, found)
        return write(found, options.out)

    return program.run(work, NotSetUp)


def compare(console: Console, options: Options, pythons: Mapping[Peer, Path]) -> Json:
    """Chooses settings, measures, and returns what the JSON file holds."""
    h2load.find()
    shop = open_shop(console, options)
    tried = {peer: tried_with(shop, peer, python) for peer, python in pythons.items()}
    flat = [each for contenders in tried.values() for _, each in contenders]
    rates = iter(tune(console, flat, options.seconds))
    rated = {
        peer: [(settings, contender, next(rates)) for settings, contender in each]
        for peer, each in tried.items()
    }
    chosen = {peer: max(each, key=lambda one: one[2]) for peer, each in rated.items()}
    found = measure_rounds(
        console,
        [
            contenders.ourselves(shop, options.server_options),
            *(contender for _, contender, _ in chosen.values()),
        ],
        options.in_flight,
        n_rounds=options.rounds,
        seconds=options.seconds,
    )
    ratios = results.ratios(found.cells, [peer.name for peer in chosen])
    return {
        "commit": machine.commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": program.command("bench-peers"),
        "machine": machine.describe(),
        "events": options.events,
        "visitors": options.visitors,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "server_options": options.server_options,
        "rows": [asdict(row) for row in results.rows(found.cells, found.cpu_ms)],
        "ratios": {name: each["median"] for name, each in ratios.items()},
        "ratios_of_rounds": ratios,
        "best_peer_at": {
            str(load): results.best_peer(found.cells, [peer.name for peer in chosen], load)
            for load in options.in_flight
        },
        "peers": {
            peer.name: described(peer, settings, rated[peer])
            for peer, (settings, _, _) in chosen.items()
        },
        "differences": found.differences,
        "memory_mb": found.memory_mb,
    }


def open_shop(console: Console, options: Options) -> Shop:
    """Returns what everybody is asked about; makes a release when none is given."""
    releases = program.releases_of(console, options.release, options.out)
    model, now = Model.open(releases), int(time.time())
    folder = releases.release(model.manifest.release_id)
    # The content of other products is in our server's index only.
    products = [
        each.product
        for each in read_first_products(folder, VIEWED_PRODUCTS)
        if model.tokenizer.products.lookup(each.product.product_id) != UNKNOWN
    ]
    visitors = make_visitors(
        products, n_visitors=options.visitors, n_events=options.events, newest_time=now
    )
    return Shop(releases, model, visitors, now, options.out)


def tried_with(shop: Shop, peer: Peer, python: Path) -> list[tuple[Settings, Contender]]:
    """Returns a contender for each of the settings of a peer."""
    found = []
    for settings in peer.settings:
        contender = contenders.peer(shop, peer, settings, python)
        title = f"{peer.title} with {told(settings)}"
        found.append((settings, replace(contender, title=title)))
    return found


def described(
    peer: Peer, settings: Settings, tried: Sequence[tuple[Settings, Contender, float]]
) -> Json:
    """Returns what a peer consists of, and what its other settings would have given."""
    installed = versions(peer)
    return {
        "title": peer.title,
        "version": installed[peer.package],
        "settings": told(settings),
        "tried_rps_at_64": {told(each): round(rps, 1) for each, _, rps in tried},
        "versions": installed,
    }


def write(found: Json, folder: Path) -> list[Path]:
    """Writes the results as JSON and Markdown, both or none."""
    text = report.markdown(found)
    return program.write_all(
        folder,
        {
            "peers.json": lambda part: part.write_text(json.dumps(found, indent=2) + "\n"),
            "peers.md": lambda part: part.write_text(text, encoding="utf-8"),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
