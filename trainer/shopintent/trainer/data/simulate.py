"""Makes a believable shop's export from a seed, for demos and tests; the same seed, the same bytes.

The logs are simulated: figures measured on them say nothing about real shoppers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from random import Random

import numpy as np

from shopintent.behavior.events import VIEW_PRODUCT
from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.data.simulated_assortment import SHELVES
from shopintent.trainer.data.simulated_catalog import SimulatedCatalog, make_catalog
from shopintent.trainer.data.simulated_export import write_app_log, write_catalog, write_web_log
from shopintent.trainer.data.simulated_seasons import NEWCOMERS, next_catalog, next_shopper
from shopintent.trainer.data.simulated_shoppers import DAY_S, make_shopper
from shopintent.trainer.data.simulated_visits import BROWSE, SimulatedEvent, simulate_shopper

BOT_EVENTS = 1200
BOT_PAUSE_S = 1


class SimulationError(ValueError):
    """A shop like this cannot be simulated; the message says why."""


@dataclass(frozen=True)
class SimulationConfig:
    """What shop to simulate."""

    seed: int = 7
    n_shoppers: int = 2_400
    n_products: int = 2_000
    days: int = 28
    start: str = "2025-09-01T00:00:00+00:00"
    """ISO time at which the log starts, a Monday."""
    n_bots: int = 3
    season: int = 1
    """Each season goes on where the one before it ended, `days` later, with the same shoppers."""

    def __post_init__(self) -> None:
        if self.n_shoppers < 1 or self.days < 1 or self.n_bots < 0:
            raise SimulationError("n_shoppers and days must be at least 1, n_bots at least 0.")
        if self.season < 1:
            raise SimulationError("season must be at least 1.")
        if self.n_products < len(SHELVES):
            raise SimulationError(
                f"n_products must be at least {len(SHELVES)}, one for every category."
            )
        try:
            datetime.fromisoformat(self.start)
        except ValueError as error:
            raise SimulationError(f'start must be an ISO time, not "{self.start}".') from error


@dataclass(frozen=True, eq=False)
class SimulatedShop:
    """A simulated shop and everything that happened in it, the hidden intents included."""

    catalog: SimulatedCatalog
    events: list[SimulatedEvent]
    """In order of time."""


def simulate(
    out: Path, config: SimulationConfig | None = None, progress: Progress = silent
) -> None:
    """Writes catalog.csv, events-web.csv, events-app.jsonl and mapping.toml into the folder `out`.

    Raises SimulationError when the folder holds other things.
    """
    config = config or SimulationConfig()
    files = ("catalog.csv", "events-web.csv", "events-app.jsonl", "mapping.toml")
    if out.exists() and (not out.is_dir() or any(p.name not in files for p in out.iterdir())):
        raise SimulationError(f"{out}: holds other things; give a new folder.")
    shop = simulate_shop(config, progress)
    out.mkdir(parents=True, exist_ok=True)
    random = Random(named(f"{config.seed} export", config.season))
    write_catalog(out / "catalog.csv", shop.catalog)
    web = [event for event in shop.events if not event.in_app]
    app = [event for event in shop.events if event.in_app]
    write_web_log(out / "events-web.csv", web, shop.catalog, random)
    write_app_log(out / "events-app.jsonl", app, shop.catalog, random)
    mapping = resources.files("shopintent.trainer") / "mappings" / "simulated.toml"
    (out / "mapping.toml").write_bytes(mapping.read_bytes())


def simulate_shop(config: SimulationConfig, progress: Progress = silent) -> SimulatedShop:
    """Returns the shop in memory, as it is in the season."""
    seed, days, season = config.seed, config.days, config.season
    first = int(datetime.fromisoformat(config.start).timestamp())
    start = first + (season - 1) * days * DAY_S
    catalogs = [make_catalog(np.random.default_rng([seed, 0]), config.n_products, days)]
    for later in range(2, season + 1):
        rng = np.random.default_rng([seed, 2, later])
        catalogs.append(next_catalog(rng, catalogs[-1], days))
    catalog, events = catalogs[-1], list[SimulatedEvent]()
    n_shoppers = round(config.n_shoppers * (1 + NEWCOMERS * (season - 1)))
    for number in range(n_shoppers):
        rng = np.random.default_rng([seed, 1, number])
        shopper = make_shopper(rng, number, catalogs[0], first, days)
        for later, its_catalog in enumerate(catalogs[1:], start=2):
            rng = np.random.default_rng([seed, 1, number, later])
            shopper = next_shopper(rng, shopper, its_catalog, start, days)
        random = Random(named(f"{seed} {number}", season))
        events.extend(simulate_shopper(shopper, random, catalog, start, days))
        if number % 100 == 99 or number + 1 == n_shoppers:
            progress("simulate shoppers", number + 1, n_shoppers)
    for number in range(config.n_bots):
        random = Random(named(f"{seed} bot {number}", season))
        events.extend(_bot(number, random, catalog, start, days))
    events.sort(key=lambda event: event.time)
    return SimulatedShop(catalog, events)


def named(seed: str, season: int) -> str:
    """Returns a seed of its own for every season; that of the first is as it always was."""
    return seed if season == 1 else f"{seed} season {season}"


def _bot(
    number: int, random: Random, catalog: SimulatedCatalog, start: int, days: int
) -> list[SimulatedEvent]:
    """A scraper reads one product page a second."""
    begin = start + random.randrange(days) * DAY_S + random.randrange(DAY_S // 2)
    return [
        SimulatedEvent(
            time=begin + step * BOT_PAUSE_S,
            shopper=f"x{number:06d}",
            event_type=VIEW_PRODUCT,
            product=random.randrange(len(catalog)),
            category="",
            query="",
            quantity=0,
            in_app=False,
            intent=BROWSE,
        )
        for step in range(BOT_EVENTS)
    ]
