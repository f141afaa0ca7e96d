"""The simulated shoppers: what each likes, can pay, and when they come by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.data.simulated_assortment import SHELVES, Shelf
from shopintent.trainer.data.simulated_catalog import SimulatedCatalog

DAY_S = 86_400
WEEKDAY_WEIGHTS = (0.95, 0.9, 0.9, 0.95, 1.0, 1.15, 1.3)
"""Monday first; weekends are busier."""
BUSY_HOURS = (8.0, 12.5, 17.5, 20.5, 22.5)
"""A shopper comes around one of them."""
VISITS_A_WEEK = 1.75
DEPARTMENTS = tuple(dict.fromkeys(shelf.department for shelf in SHELVES))


@dataclass(frozen=True, eq=False)
class Shopper:
    """One shopper; everything but the id is hidden from the log."""

    number: int
    shopper_id: str
    thrift: float
    """How much more than most they mind a price."""
    brand_taste: NDArray[np.float64]
    """[departments, brands]."""
    shelf_taste: NDArray[np.float64]
    """[shelves], probabilities."""
    liking: NDArray[np.float64]
    """[products], how much they would like to have each, apart from its popularity."""
    decisiveness: float
    """Added to the log odds of buying."""
    mission_rate: float
    """Chance that a visit without a plan starts one."""
    visits: list[int]
    """Unplanned visits, unix seconds, ascending."""
    uses_app: float
    """Share of visits made in the app."""


def make_shopper(
    rng: np.random.Generator, number: int, catalog: SimulatedCatalog, start: int, days: int
) -> Shopper:
    """Returns a shopper drawn from the generator."""
    thrift = rng.normal(0.0, 1.0)
    brand_taste = rng.normal(0.0, 0.7, (len(DEPARTMENTS), 6))
    return Shopper(
        number=number,
        shopper_id=f"u{number:06d}",
        thrift=thrift,
        brand_taste=brand_taste,
        liking=liking_of(rng, catalog, brand_taste, thrift),
        shelf_taste=draw_shelf_taste(rng, catalog.shelves),
        decisiveness=float(rng.normal(0.0, 0.7)),
        mission_rate=float(rng.beta(1.0, 8.0)),
        visits=draw_visits(rng, start, days),
        uses_app=float(rng.beta(0.5, 0.7)),
    )


def liking_of(
    rng: np.random.Generator,
    catalog: SimulatedCatalog,
    brand_taste: NDArray[np.float64],
    thrift: float,
) -> NDArray[np.float64]:
    """Returns [products], how much somebody of such taste likes each."""
    liking: NDArray[np.float64] = (
        0.7 * catalog.quality
        + brand_taste[department_and_brand(catalog)]
        - (0.9 + 0.8 * thrift) * catalog.relative_price
        + rng.normal(0.0, 0.5, len(catalog))
    )
    return liking


def department_and_brand(
    catalog: SimulatedCatalog,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns which row and column of a shopper's `brand_taste` each product is about."""
    of_shelf = np.array([DEPARTMENTS.index(shelf.department) for shelf in catalog.shelves])
    return of_shelf[catalog.shelf], np.round((1.0 - catalog.tier) * 2.5).astype(np.int64)


def draw_shelf_taste(rng: np.random.Generator, shelves: tuple[Shelf, ...]) -> NDArray[np.float64]:
    """Two to four departments and, within them, a few shelves."""
    departments = rng.choice(len(DEPARTMENTS), rng.integers(2, 5), replace=False)
    favorite = np.array([DEPARTMENTS.index(shelf.department) in departments for shelf in shelves])
    weight = rng.gamma(0.6, 1.0, len(shelves)) * np.where(favorite, 1.0, 0.04)
    taste: NDArray[np.float64] = weight / weight.sum()
    return taste


def draw_visits(rng: np.random.Generator, start: int, days: int) -> list[int]:
    """Returns when a shopper comes by without a plan, unix seconds, ascending."""
    n = rng.poisson(VISITS_A_WEEK * rng.gamma(1.6, 1 / 1.6) * days / 7)
    weights = np.array([WEEKDAY_WEIGHTS[day % 7] for day in range(days)])
    day = rng.choice(days, n, p=weights / weights.sum())
    hour = rng.normal(BUSY_HOURS[rng.integers(len(BUSY_HOURS))], 2.2, n) % 24
    return sorted((start + day * DAY_S + (hour * 3600).astype(int)).tolist())
