"""The simulated shop's catalog: products with brand, quality, price, and a life in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.data.simulated_assortment import BRANDS, SHELVES, Shelf

NEW_SHARE = 0.04
"""Of the products come to the shop in its last days."""
NEW_DAYS = 4
PROMOTED_SHARE = 0.06
PROMOTION_DAYS = 3
OUT_OF_STOCK_SHARE = 0.03


@dataclass(frozen=True, eq=False)
class SimulatedCatalog:
    """Products as parallel arrays [N] or lists of N; shelves of products as index arrays."""

    shelves: tuple[Shelf, ...]
    """What the shop deals in, as `shelf` counts them."""
    ids: list[str]
    titles: list[str]
    descriptions: list[str]
    brands: list[str]
    shelf: NDArray[np.int64]
    tier: NDArray[np.float64]
    """-1 (cheap brand) to 1 (dear brand)."""
    quality: NDArray[np.float64]
    """Hidden; people like it."""
    price: NDArray[np.float64]
    relative_price: NDArray[np.float64]
    """Log price against the shelf's median."""
    in_stock: NDArray[np.bool_]
    first_day: NDArray[np.int64]
    popularity: NDArray[np.float64]
    """[days, N], log of how often a product is come across on a day."""
    on_shelf: list[NDArray[np.int64]]
    """Products of each shelf."""

    def __len__(self) -> int:
        return len(self.ids)


def make_catalog(rng: np.random.Generator, n_products: int, days: int) -> SimulatedCatalog:
    """Returns a catalog of n_products spread over all shelves."""
    shelf = np.sort(rng.permutation(np.arange(n_products) % len(SHELVES)))
    return put_on(rng, SHELVES, shelf, days)


def put_on(
    rng: np.random.Generator,
    shelves: tuple[Shelf, ...],
    shelf: NDArray[np.int64],
    days: int,
    *,
    first_number: int = 0,
) -> SimulatedCatalog:
    """Returns a catalog of a product for each entry of `shelf`; ids count from `first_number`."""
    n_products, n_brands = len(shelf), 6
    brand = rng.integers(0, n_brands, n_products)
    tier = 1.0 - 2.0 * brand / (n_brands - 1)
    quality = rng.normal(0.35 * tier, 0.8)
    relative_price = 0.38 * tier + 0.18 * quality + rng.normal(0.0, 0.25, n_products)
    median = np.array([shelves[s].median_price for s in shelf])
    price = _shop_price(median * np.exp(relative_price))
    names = [_name(rng, shelves[s], b, p) for s, b, p in zip(shelf, brand, price, strict=True)]
    is_new = rng.random(n_products) < NEW_SHARE
    last_days = max(days - NEW_DAYS, 0)
    first_day = np.where(is_new, rng.integers(last_days, days, n_products), 0)
    return SimulatedCatalog(
        shelves=shelves,
        ids=[f"P{100_000 + first_number + i}" for i in range(n_products)],
        titles=[title for title, _, _ in names],
        descriptions=[description for _, description, _ in names],
        brands=[brand_name for _, _, brand_name in names],
        shelf=shelf,
        tier=tier,
        quality=quality,
        price=price,
        relative_price=np.log(price / median),
        in_stock=rng.random(n_products) >= OUT_OF_STOCK_SHARE,
        first_day=first_day,
        popularity=_popularity(rng, quality, first_day, days),
        on_shelf=products_on(shelves, shelf),
    )


def products_on(shelves: tuple[Shelf, ...], shelf: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Returns the products of each shelf."""
    return [np.flatnonzero(shelf == s) for s in range(len(shelves))]


def _shop_price(price: NDArray[np.float64]) -> NDArray[np.float64]:
    """19.99 rather than 19.63."""
    whole = np.where(price >= 100, np.round(price / 5) * 5, np.maximum(np.round(price), 2))
    return np.round(whole - 0.01, 2)


def _name(rng: np.random.Generator, shelf: Shelf, brand: int, price: float) -> tuple[str, str, str]:
    brand_name = BRANDS[shelf.department].split("|")[brand]
    first, second = rng.choice(len(shelf.features), 2, replace=False)
    variant = shelf.variants[rng.integers(len(shelf.variants))]
    feature, other = shelf.features[first], shelf.features[second]
    title = f"{brand_name} {feature} {shelf.noun} {variant}"
    value = "made to last" if price > shelf.median_price else "good value for every day"
    place = shelf.path.split(" > ")[-1].lower()
    description = f"{feature} {shelf.noun.lower()}, {other.lower()}, {value}; from our {place}."
    return title, description, brand_name


def _popularity(
    rng: np.random.Generator, quality: NDArray[np.float64], first_day: NDArray[np.int64], days: int
) -> NDArray[np.float64]:
    """A long tail that drifts over the weeks, with promotions of a few days on top."""
    n = len(quality)
    base = rng.normal(0.3 * quality, 1.0)
    drift = rng.normal(0.0, 0.8, n)
    day = np.arange(days)[:, None]
    popularity = base + drift * (day / max(days - 1, 1) - 0.5)
    start = rng.integers(0, days, n)
    promoted = rng.random(n) < PROMOTED_SHARE
    on = promoted & (day >= start) & (day < start + PROMOTION_DAYS)
    fresh = (first_day > 0) & (day >= first_day)
    popularity = popularity + 1.5 * on + 0.8 * fresh
    return np.where(day >= first_day, popularity, -np.inf)
