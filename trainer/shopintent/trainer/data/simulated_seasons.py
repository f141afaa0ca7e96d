"""What a new season changes: products and shelves come, tastes and what is popular shift.

The shoppers are who they were and know the shop; some come for the first time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.data.simulated_assortment import SEASON_SHELVES
from shopintent.trainer.data.simulated_catalog import SimulatedCatalog, products_on, put_on
from shopintent.trainer.data.simulated_shoppers import (
    Shopper,
    department_and_brand,
    draw_shelf_taste,
    draw_visits,
    liking_of,
)

ARRIVALS = 0.2
"""New products a season, as a share of those there are; half of them on the season's shelves."""
SOLD_OUT = 0.05
NEWCOMERS = 0.1
"""Shoppers who come for the first time, as a share of those there are."""
KEPT_TASTE = 0.5
SEASON_PULL = 3.0
"""How much more than others the shelves of a season draw shoppers in."""
KEPT_POPULARITY = 0.6
FRESH = 0.8


def next_catalog(
    rng: np.random.Generator, catalog: SimulatedCatalog, days: int
) -> SimulatedCatalog:
    """Returns the catalog of the next season; the products that were there come first."""
    known = {shelf.path for shelf in catalog.shelves}
    shelves = (*catalog.shelves, *(each for each in SEASON_SHELVES if each.path not in known))
    n_new = max(len(SEASON_SHELVES), round(ARRIVALS * len(catalog)))
    seasonal = np.arange(len(shelves) - len(SEASON_SHELVES), len(shelves))
    anywhere = rng.integers(len(shelves), size=n_new // 2)
    shelf = np.sort(np.concatenate([np.resize(seasonal, n_new - n_new // 2), anywhere]))
    new = put_on(rng, shelves, shelf, days, first_number=len(catalog))
    return SimulatedCatalog(
        shelves=shelves,
        ids=catalog.ids + new.ids,
        titles=catalog.titles + new.titles,
        descriptions=catalog.descriptions + new.descriptions,
        brands=catalog.brands + new.brands,
        shelf=(both := np.concatenate([catalog.shelf, new.shelf])),
        tier=np.concatenate([catalog.tier, new.tier]),
        quality=np.concatenate([catalog.quality, new.quality]),
        price=np.concatenate([catalog.price, new.price]),
        relative_price=np.concatenate([catalog.relative_price, new.relative_price]),
        in_stock=np.concatenate(
            [catalog.in_stock & (rng.random(len(catalog)) >= SOLD_OUT), new.in_stock]
        ),
        first_day=np.concatenate([np.zeros_like(catalog.first_day), new.first_day]),
        popularity=np.hstack([_shifted(rng, catalog.popularity[-1], days), new.popularity + FRESH]),
        on_shelf=products_on(shelves, both),
    )


def _shifted(
    rng: np.random.Generator, popularity: NDArray[np.float64], days: int
) -> NDArray[np.float64]:
    """Returns [days, N], what becomes of the popularity [N] of a season's last day."""
    n = len(popularity)
    base = KEPT_POPULARITY * popularity + rng.normal(0.0, 0.8, n)
    drift: NDArray[np.float64] = rng.normal(0.0, 0.8, n) * np.linspace(-0.5, 0.5, days)[:, None]
    return base + drift


def next_shopper(
    rng: np.random.Generator, shopper: Shopper, catalog: SimulatedCatalog, start: int, days: int
) -> Shopper:
    """Returns the shopper in the season that begins at `start`, unix seconds, with its catalog."""
    shift = rng.normal(0.0, 0.4, shopper.brand_taste.shape)
    n_known = len(shopper.liking)
    liking = liking_of(rng, catalog, shopper.brand_taste + shift, shopper.thrift)
    liking[:n_known] = shopper.liking + shift[department_and_brand(catalog)][:n_known]
    return replace(
        shopper,
        brand_taste=shopper.brand_taste + shift,
        liking=liking,
        shelf_taste=_season_taste(rng, shopper, catalog),
        visits=draw_visits(rng, start, days),
    )


def _season_taste(
    rng: np.random.Generator, shopper: Shopper, catalog: SimulatedCatalog
) -> NDArray[np.float64]:
    """Half of what it was, half drawn anew, with a pull to the shelves of the season."""
    kept = np.pad(shopper.shelf_taste, (0, len(catalog.shelves) - len(shopper.shelf_taste)))
    drawn = draw_shelf_taste(rng, catalog.shelves)
    drawn[-len(SEASON_SHELVES) :] *= SEASON_PULL
    mixed = KEPT_TASTE * kept + (1 - KEPT_TASTE) * drawn / drawn.sum()
    taste: NDArray[np.float64] = mixed / mixed.sum()
    return taste
