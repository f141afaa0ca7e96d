"""The whole bench, in order: track, verify, measure in rounds, overload, verify again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from rich.console import Console

from deploy.bench import machine, results, stages
from deploy.bench.load import Load, Target, offer
from deploy.bench.options import Options
from deploy.bench.overload import overload
from deploy.bench.results import Cell, Rounds
from deploy.bench.rounds import Planned, measure_rounds
from deploy.bench.servers import Server, Servers
from deploy.bench.targets import (
    HEALTH,
    PREDICT_INTENT,
    RECOMMEND,
    TRITON,
    Answer,
    DirectModel,
    ask_predict_intent,
    ask_recommend,
    health_target,
    open_direct_model,
    predict_intent_target,
    recommend_target,
)
from deploy.bench.verify import Catalog, Verified, answer_bytes, read_catalog, recover, verify
from deploy.bench.visitors import Visitor, make_visitors, track
from shopintent.artifacts import Manifest
from shopintent.artifacts.products import read_first_products
from shopintent.behavior import BehaviorTokenizer, Product
from shopintent.behavior.vocabulary import UNKNOWN
from shopintent.client import ShopIntentClient

WARM_UP_SHARE = 0.2
"""Of what is measured: so long every load runs before it."""
VIEWED_PRODUCTS = 2_000
"""Visitors look at those of the first products that the release was trained with."""
HALF_OF_PEAK = 0.5
TIMES_PEAK = 3.0
OVERLOAD_S = 8.0
GROWTH_IN_FLIGHT = (1, 64)
STAGES_IN_FLIGHT = (1, 64)
N_VERIFIED = 300
N_VERIFIED_AGAIN = 50

Json = dict[str, Any]
ASK: Mapping[str, Callable[[ShopIntentClient, Visitor], Answer]] = {
    PREDICT_INTENT: ask_predict_intent,
    RECOMMEND: ask_recommend,
}


@dataclass(frozen=True, eq=False)
class Bench:
    """What runs, and how it is measured."""

    console: Console
    options: Options
    servers: Servers
    clients: Mapping[int, ShopIntentClient]
    """By collection size."""
    direct: DirectModel
    manifest: Manifest
    products: Sequence[Product]
    """Those that visitors look at."""
    catalogs: Mapping[int, Catalog]
    """By collection size."""
    started: int
    """Unix time; everything that visitors did was before."""

    @property
    def main(self) -> Server:
        return self.servers.by_size[self.options.main_size]

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.options.products

    def load(self, *, in_flight: int = 0, rate: float = 0.0) -> Load:
        """Returns the load, as long as the options say."""
        seconds = self.options.seconds
        return Load(in_flight, rate, seconds, warm_up_s=seconds * WARM_UP_SHARE)

    def visitors(self, n_events: int, sizes: Sequence[int]) -> list[Visitor]:
        """Returns visitors who did so many things, tracked by the servers of the sizes."""
        visitors = make_visitors(
            self.products,
            n_visitors=self.options.visitors,
            n_events=n_events,
            newest_time=self.started,
        )
        with self.console.status(f"tracking {len(visitors):,} visitors with {n_events} events"):
            for size in sizes:
                track(self.clients[size], visitors)
        return visitors

    def verify(self, visitors: Sequence[Visitor]) -> dict[int, Verified]:
        """Checks the answers of every server. Raises WrongAnswer."""
        found = {}
        for size in self.sizes:
            with self.console.status(f"verifying answers over {size:,} products"):
                found[size] = verify(
                    self.clients[size], self.direct, self.manifest, self.catalogs[size], visitors
                )
        return found

    def target(self, name: str, size: int, visitors: Sequence[Visitor]) -> Target:
        """Returns a target; those that ask about visitors take them in turn."""
        if name == TRITON:
            return self.direct.target(visitors, request_time=self.started)
        if name == HEALTH:
            return health_target(self.main.address)
        make = predict_intent_target if name == PREDICT_INTENT else recommend_target
        n_bytes = answer_bytes(ASK[name], self.clients[size], visitors[:N_VERIFIED])
        target = make(self.servers.by_size[size].address, visitors)
        return replace(target, answer_bytes=n_bytes)

    def planned(
        self, visitors: Sequence[Visitor], sizes: Sequence[int], in_flight: Sequence[int]
    ) -> dict[Cell, Planned]:
        """Returns every closed loop; what is compared with one another stands side by side."""
        main = self.options.main_size
        who = [(TRITON, 0), (PREDICT_INTENT, main), *((RECOMMEND, size) for size in sizes)]
        targets = {(name, size): self.target(name, size, visitors) for name, size in who}
        return {
            Cell(name, number, size): self.plan(target, size, self.load(in_flight=number), visitors)
            for number in in_flight
            for (name, size), target in targets.items()
        }

    def plan(self, target: Target, size: int, load: Load, visitors: Sequence[Visitor]) -> Planned:
        """Returns the load with a call beside it, unless it is one call at a time."""
        if target.name in (TRITON, HEALTH) or load.in_flight == 1:
            return Planned(target, load)
        return Planned(target, load, partial(ASK[target.name], self.clients[size], visitors[0]))


@contextmanager
def opened(console: Console, options: Options, servers: Servers) -> Iterator[Bench]:
    """Connects to what runs."""
    main = servers.by_size[options.main_size]
    folder = main.releases.release(main.release_id)
    with ExitStack() as stack:
        clients = {
            size: stack.enter_context(ShopIntentClient(server.address, insecure=True))
            for size, server in servers.by_size.items()
        }
        tokenizer = BehaviorTokenizer.load(folder.behavior_tokenizer)
        direct = stack.enter_context(
            open_direct_model(servers.triton_address, servers.model_name, tokenizer)
        )
        yield Bench(
            console=console,
            options=options,
            servers=servers,
            clients=clients,
            direct=direct,
            manifest=Manifest.load(folder.manifest),
            products=[
                each.product
                for each in read_first_products(folder, min(VIEWED_PRODUCTS, options.products[0]))
                if tokenizer.products.lookup(each.product.product_id) != UNKNOWN
            ],
            catalogs={size: read_catalog(server) for size, server in servers.by_size.items()},
            started=int(time.time()),
        )


def run(bench: Bench) -> Json:
    """Runs everything and returns what the JSON file holds."""
    options, main_size = bench.options, bench.options.main_size
    memory = {"after_start": memory_mb(bench.servers)}
    visitors = bench.visitors(options.events, bench.sizes)
    verified = bench.verify(visitors[:N_VERIFIED])
    planned = bench.planned(visitors, bench.sizes, options.in_flight)
    planned |= {
        Cell(HEALTH, number, 0): bench.plan(
            bench.target(HEALTH, main_size, visitors), 0, bench.load(in_flight=number), visitors
        )
        for number in STAGES_IN_FLIGHT
        if number in options.in_flight
    }
    closed, wrong = measure_rounds(bench.console, "closed loops", planned, options.rounds)
    ratios = results.ratios(closed, products=main_size)
    half_peak = open_loops(bench, visitors, closed)
    ratios |= {
        f"recommend_p99_ms_half_peak_{short(row['products'])}": row["p99_ms_of_rounds"]
        for row in half_peak
    }
    ratios |= {
        f"recommend_recall_{short(size)}": results.summary([each.recall])
        for size, each in verified.items()
    }
    found: Json = {
        "rows": [asdict(row) for row in results.rows(closed, wrong)],
        "ratios": {name: each["median"] for name, each in ratios.items()},
        "ratios_of_rounds": ratios,
        "open_loop": half_peak,
        "stages": measure_stages(bench, visitors),
        "parts_at_1": results.parts(closed, products=main_size),
        "growth": growth(bench),
        "overload": overloads(bench, visitors, closed) if options.overload else [],
        "verified": {size: asdict(each) for size, each in verified.items()},
    }
    bench.verify(visitors[:N_VERIFIED_AGAIN])
    memory["at_the_end"] = memory_mb(bench.servers)
    return {"machine": machine.describe(), **found, "memory_mb": memory}


def open_loops(bench: Bench, visitors: Sequence[Visitor], closed: Rounds) -> list[Json]:
    """Returns how long Recommend takes at half of the rate that it can answer."""
    planned = {}
    for size in bench.sizes:
        rate = results.peak(closed, RECOMMEND, size) * HALF_OF_PEAK
        target = bench.target(RECOMMEND, size, visitors)
        planned[Cell(RECOMMEND, 0, size)] = bench.plan(
            target, size, bench.load(rate=rate), visitors
        )
    measured, wrong = measure_rounds(
        bench.console, "half of the peak", planned, bench.options.rounds
    )
    return [
        {
            **asdict(row),
            "offered_rps": round(planned[cell].load.rate, 1),
            "p99_ms_of_rounds": results.summary([each.p99_ms for each in measured[cell]]),
        }
        for cell, row in zip(measured, results.rows(measured, wrong), strict=True)
    ]


def measure_stages(bench: Bench, visitors: Sequence[Visitor]) -> Json:
    """Returns what each stage of a call costs, by target and calls in flight."""
    found: Json = {}
    for name in (PREDICT_INTENT, RECOMMEND):
        target = bench.target(name, bench.options.main_size, visitors)
        for in_flight in STAGES_IN_FLIGHT:
            before = stages.read(bench.main.metrics_address)
            offer(target, bench.load(in_flight=in_flight))
            after = stages.read(bench.main.metrics_address)
            found[f"{name}_at_{in_flight}"] = stages.between(before, after)
    return found


def growth(bench: Bench) -> list[Json]:
    """Returns rows for visitors with more and more events."""
    found = []
    size = bench.options.main_size
    for n_events in bench.options.growth:
        visitors = bench.visitors(n_events, [size])
        planned = bench.planned(visitors, [size], GROWTH_IN_FLIGHT)
        measured, wrong = measure_rounds(
            bench.console, f"{n_events} events", planned, bench.options.rounds
        )
        found += [{"events": n_events, **asdict(row)} for row in results.rows(measured, wrong)]
    return found


def overloads(bench: Bench, visitors: Sequence[Visitor], closed: Rounds) -> list[Json]:
    """Returns what becomes of calls at three times the rate that can be answered."""
    found = []
    size = bench.options.main_size
    for name in (PREDICT_INTENT, RECOMMEND):
        with bench.console.status(f"{name} at {TIMES_PEAK:g} times its peak"):
            judged = overload(
                bench.target(name, size, visitors),
                peak_rps=results.peak(closed, name, size),
                times_peak=TIMES_PEAK,
                products=size,
                deadline_s=bench.options.deadline_s,
                duration_s=min(OVERLOAD_S, 3 * bench.options.seconds),
            )
            recovered_after_s = recover(partial(ASK[name], bench.clients[size], visitors[0]))
        found.append({**asdict(judged), "recovered_after_s": round(recovered_after_s, 3)})
    return found


def memory_mb(servers: Servers) -> Json:
    """Returns the memory of each process with all below it."""
    return {
        "triton": machine.memory_mb(servers.triton.popen.pid),
        **{
            f"server_{short(size)}": machine.memory_mb(server.process.popen.pid)
            for size, server in servers.by_size.items()
        },
    }


def short(n_products: int) -> str:
    """Returns 10k for 10,000 and 1m for 1,000,000."""
    for unit, size in (("m", 1_000_000), ("k", 1_000)):
        if n_products >= size and n_products % size == 0:
            return f"{n_products // size}{unit}"
    return str(n_products)
