"""What simulated shoppers do: visits with an intent, joined by missions that last for days.

A mission is something a shopper means to buy: they compare over some visits, come back days later
and buy, or give up. Visits without one are browsing. What is bought depends on liking, price and
decisiveness, so that the log can teach a model what it does not say.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from shopintent.behavior.events import (
    ADD_TO_CART,
    FAVORITE,
    PURCHASE,
    REMOVE_FROM_CART,
    SEARCH,
    VIEW_CATEGORY,
    VIEW_PRODUCT,
)
from shopintent.trainer.data.simulated_assortment import GIFT_QUERIES, Shelf
from shopintent.trainer.data.simulated_catalog import SimulatedCatalog
from shopintent.trainer.data.simulated_shoppers import DAY_S, Shopper

BROWSE, COMPARE, HUNT, GIFT, REPLENISH = "browse", "compare", "hunt", "gift", "replenish"
PAUSE_S = {BROWSE: 28, COMPARE: 40, HUNT: 22, GIFT: 34, REPLENISH: 16}
"""Median seconds between two events."""
MIN_BETWEEN_VISITS_S = 3 * 3600


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """One event and the intent behind it, which no log tells."""

    time: int
    shopper: str
    event_type: str
    product: int
    """Index in the catalog; -1 for none."""
    category: str
    query: str
    quantity: int
    in_app: bool
    intent: str


@dataclass
class Mission:
    """Something a shopper means to buy."""

    kind: str
    shelf: int
    visits_left: int
    """Comparing visits before the deciding one."""
    considered: dict[int, float] = field(default_factory=dict)
    """Products looked at, with how much they appealed."""


@dataclass
class _Visit:
    """A visit under way."""

    shopper: Shopper
    random: Random
    catalog: SimulatedCatalog
    time: int
    day: int
    intent: str
    in_app: bool
    events: list[SimulatedEvent] = field(default_factory=list)
    cart: list[int] = field(default_factory=list)

    def do(
        self, event_type: str, product: int = -1, category: str = "", query: str = "", n: int = 0
    ) -> None:
        self.events.append(
            SimulatedEvent(
                self.time,
                self.shopper.shopper_id,
                event_type,
                product,
                category,
                query,
                n,
                self.in_app,
                self.intent,
            )
        )
        pause = self.random.lognormvariate(math.log(PAUSE_S[self.intent]), 0.9)
        self.time += max(1, min(int(pause), 1500))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def put_in_cart(self, product: int) -> None:
        units = 1 if self.chance(0.85) else self.random.randint(2, 4)
        self.do(ADD_TO_CART, product, n=units)
        self.cart.append(product)

    def decide(self, log_odds: float) -> list[int]:
        """Buys what is in the cart, takes it out again, or leaves it there."""
        bought: list[int] = []
        for product in self.cart:
            liking = float(self.shopper.liking[product])
            if not self.catalog.in_stock[product]:
                continue
            if self.chance(_sigmoid(log_odds + self.shopper.decisiveness + 0.9 * liking)):
                units = 1 if self.chance(0.85) else self.random.randint(2, 4)
                self.do(PURCHASE, product, n=units)
                bought.append(product)
            elif self.chance(0.3):
                self.do(REMOVE_FROM_CART, product, n=1)
        return bought


def simulate_shopper(
    shopper: Shopper, random: Random, catalog: SimulatedCatalog, start: int, days: int
) -> Iterator[SimulatedEvent]:
    """Yields the shopper's events over the days, in order of time."""
    end, last_end = start + days * DAY_S, 0
    agenda: list[tuple[int, int, Mission | None]] = [
        (time, number, None) for number, time in enumerate(shopper.visits)
    ]
    heapq.heapify(agenda)
    number = len(agenda)
    while agenda:
        time, _, mission = heapq.heappop(agenda)
        if time >= end - 3600 or time < last_end + MIN_BETWEEN_VISITS_S:
            continue
        if mission is None and random.random() < shopper.mission_rate:
            mission = _new_mission(shopper, random, catalog.shelves)
        intent = _intent(mission)
        day = (time - start) // DAY_S
        visit = _Visit(
            shopper, random, catalog, time, day, intent, random.random() < shopper.uses_app
        )
        for later, next_mission in _run(visit, mission):
            number += 1
            heapq.heappush(agenda, (later, number, next_mission))
        last_end = visit.time
        yield from visit.events


def _new_mission(shopper: Shopper, random: Random, shelves: tuple[Shelf, ...]) -> Mission:
    if random.random() < 0.2:
        return Mission(GIFT, random.randrange(len(shelves)), 0)
    shelf = random.choices(range(len(shelves)), weights=shopper.shelf_taste.tolist())[0]
    dear = shelves[shelf].median_price > 80
    return Mission(COMPARE, shelf, random.choice((1, 2, 2, 3) if dear else (0, 0, 1, 1)))


def _intent(mission: Mission | None) -> str:
    if mission is None:
        return BROWSE
    if mission.kind in (GIFT, REPLENISH):
        return mission.kind
    return COMPARE if mission.visits_left > 0 else HUNT


def _run(visit: _Visit, mission: Mission | None) -> list[tuple[int, Mission]]:
    """Plays the visit; returns the visits it leads to."""
    if mission is None:
        return _browse(visit)
    if visit.intent == COMPARE:
        return _compare(visit, mission)
    if visit.intent == GIFT:
        bought = _gift(visit, mission)
    elif visit.intent == HUNT:
        bought = _hunt(visit, mission)
    else:
        bought = _replenish(visit, mission)
    return _after(visit, mission, bought)


def _browse(visit: _Visit) -> list[tuple[int, Mission]]:
    shopper, random = visit.shopper, visit.random
    shelf = random.choices(range(len(visit.catalog.shelves)), weights=shopper.shelf_taste.tolist())[
        0
    ]
    if visit.chance(0.6):
        _open_shelf(visit, shelf)
    seen: list[int] = []
    for _ in range(1 + min(int(random.expovariate(1 / 4.2)), 20)):
        if visit.chance(0.2):
            shelf = random.choices(
                range(len(visit.catalog.shelves)), weights=shopper.shelf_taste.tolist()
            )[0]
            _open_shelf(visit, shelf)
            continue
        product = _come_across(visit, shelf, 0.5)
        if product is None:
            continue
        visit.do(VIEW_PRODUCT, product)
        seen.append(product)
        liking = float(shopper.liking[product])
        if visit.chance(_sigmoid(-4.0 + 0.8 * liking)):
            visit.do(FAVORITE, product)
        if visit.chance(_sigmoid(-4.8 + 0.8 * liking)):
            visit.put_in_cart(product)
    bought = visit.decide(-4.2)
    if seen and not bought and visit.chance(0.04):
        # Something caught the eye; they come back for it.
        best = max(seen, key=lambda product: float(shopper.liking[product]))
        mission = Mission(COMPARE, int(visit.catalog.shelf[best]), visit.random.randint(0, 1))
        mission.considered[best] = float(shopper.liking[best])
        return [(_days_later(visit, 0.3, 2.0), mission)]
    return []


def _compare(visit: _Visit, mission: Mission) -> list[tuple[int, Mission]]:
    shelf, random = visit.catalog.shelves[mission.shelf], visit.random
    _arrive(visit, mission, shelf)
    for _ in range(4 + min(int(random.expovariate(1 / 5.0)), 16)):
        if mission.considered and visit.chance(0.3):
            product = _favorite_of(mission, random)
        elif visit.chance(0.1):
            _search(visit, shelf)
            continue
        else:
            found = _come_across(visit, mission.shelf, 1.0)
            if found is None:
                break
            product = found
        visit.do(VIEW_PRODUCT, product)
        mission.considered[product] = float(visit.shopper.liking[product]) + random.gauss(0, 0.3)
        if visit.chance(_sigmoid(-2.9 + 0.9 * mission.considered[product])):
            visit.do(FAVORITE, product)
    if mission.considered and visit.chance(0.16):
        visit.put_in_cart(_favorite_of(mission, random))
    if visit.decide(-2.8):
        return []
    mission.visits_left -= 1
    gives_up = visit.chance(0.22 if max(mission.considered.values(), default=-9) > 0 else 0.5)
    return [] if gives_up else [(_days_later(visit, 0.4, 3.5), mission)]


def _hunt(visit: _Visit, mission: Mission) -> list[int]:
    shelf, random = visit.catalog.shelves[mission.shelf], visit.random
    if mission.considered and visit.chance(0.45):
        best = max(mission.considered, key=lambda product: mission.considered[product])
        if visit.chance(0.6):
            visit.do(SEARCH, query=_exact_query(visit, best))
        visit.do(VIEW_PRODUCT, best)
    else:
        _arrive(visit, mission, shelf)
    for _ in range(1 + min(int(random.expovariate(1 / 1.6)), 8)):
        again = mission.considered and visit.chance(0.5)
        product = (
            _favorite_of(mission, random) if again else _come_across(visit, mission.shelf, 1.3)
        )
        if product is None:
            break
        visit.do(VIEW_PRODUCT, product)
        mission.considered[product] = float(visit.shopper.liking[product]) + random.gauss(0, 0.3)
    if not mission.considered:
        return []
    best = max(mission.considered, key=lambda product: mission.considered[product])
    if visit.chance(_sigmoid(0.0 + 0.7 * mission.considered[best])):
        visit.put_in_cart(best)
        if visit.chance(0.12):
            other = _come_across(visit, mission.shelf, 1.0)
            if other is not None:
                visit.put_in_cart(other)
    return visit.decide(-0.3)


def _gift(visit: _Visit, mission: Mission) -> list[int]:
    random = visit.random
    visit.do(SEARCH, query=random.choice(GIFT_QUERIES))
    shelves = [
        mission.shelf,
        random.randrange(len(visit.catalog.shelves)),
        random.randrange(len(visit.catalog.shelves)),
    ]
    best: int | None = None
    for _ in range(2 + min(int(random.expovariate(1 / 2.8)), 10)):
        shelf = random.choice(shelves)
        if visit.chance(0.3):
            _open_shelf(visit, shelf)
        product = _come_across(visit, shelf, 0.6)
        if product is None:
            continue
        visit.do(VIEW_PRODUCT, product)
        if best is None or visit.shopper.liking[product] > visit.shopper.liking[best]:
            best = product
    if best is not None and visit.chance(0.3):
        visit.put_in_cart(best)
    return visit.decide(-1.8)


def _replenish(visit: _Visit, mission: Mission) -> list[int]:
    product = next(iter(mission.considered))
    if visit.chance(0.4):
        visit.do(SEARCH, query=_exact_query(visit, product))
    visit.do(VIEW_PRODUCT, product)
    if visit.chance(0.6):
        visit.put_in_cart(product)
    return visit.decide(0.2)


def _after(visit: _Visit, mission: Mission, bought: list[int]) -> list[tuple[int, Mission]]:
    """What follows a deciding visit: used up things are bought again, some missions linger."""
    later: list[tuple[int, Mission]] = []
    for product in bought:
        days = visit.catalog.shelves[visit.catalog.shelf[product]].replenish_days
        if days and visit.chance(0.9):
            again = Mission(REPLENISH, int(visit.catalog.shelf[product]), 0, {product: 1.0})
            later.append((_days_later(visit, days * 0.8, days * 1.2), again))
    if not bought and mission.kind == COMPARE and visit.chance(0.3):
        later.append((_days_later(visit, 0.4, 3.0), mission))
    return later


def _arrive(visit: _Visit, mission: Mission, shelf: Shelf) -> None:
    if visit.chance(0.55):
        _search(visit, shelf)
    elif visit.chance(0.9):
        _open_shelf(visit, mission.shelf)


def _open_shelf(visit: _Visit, shelf: int) -> None:
    path = visit.catalog.shelves[shelf].path
    parent = path.rsplit(" > ", 1)[0]
    visit.do(VIEW_CATEGORY, category=parent if visit.chance(0.2) else path)


def _search(visit: _Visit, shelf: Shelf) -> None:
    random = visit.random
    word = random.choice((shelf.noun.lower(), *shelf.words))
    if visit.chance(0.35):
        word = f"{random.choice(shelf.features).lower()} {word}"
    if visit.chance(0.06):
        word = _typo(word, random)
    visit.do(SEARCH, query=word)


def _exact_query(visit: _Visit, product: int) -> str:
    noun = visit.catalog.shelves[visit.catalog.shelf[product]].noun.lower()
    return f"{visit.catalog.brands[product].lower()} {noun}"


def _typo(word: str, random: Random) -> str:
    at = random.randrange(len(word))
    return word[:at] + word[at + 1 :]


def _come_across(visit: _Visit, shelf: int, taste: float) -> int | None:
    """A product of the shelf by today's popularity and, as much as `taste` says, by liking."""
    products = visit.catalog.on_shelf[shelf]
    appeal = visit.catalog.popularity[visit.day, products] + taste * visit.shopper.liking[products]
    weights = [math.exp(value) for value in appeal.tolist()]
    if not any(weights):
        return None
    return int(visit.random.choices(products.tolist(), weights=weights)[0])


def _favorite_of(mission: Mission, random: Random) -> int:
    products = list(mission.considered)
    weights = [math.exp(1.2 * mission.considered[product]) for product in products]
    return random.choices(products, weights=weights)[0]


def _days_later(visit: _Visit, least: float, most: float) -> int:
    return visit.time + int(visit.random.uniform(least, most) * DAY_S)


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))
