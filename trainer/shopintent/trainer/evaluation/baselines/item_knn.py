"""Item-kNN: products that the same shoppers had, by cosine, summed over what was seen lately.

A strong baseline for sessions (Ludewig and Jannach 2018, https://arxiv.org/abs/1803.09587). How
fast the past fades and how much a repeat counts are chosen on the last learned event of shoppers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as grid
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.evaluation.metrics import of_ranks
from shopintent.trainer.evaluation.next_product import (
    NextProductTask,
    last_learned,
    rank_products,
)

NEIGHBORS = 200
MAX_HISTORY = 200
"""Newest events of a shopper that count; without a limit a few long ones would cost the most."""
MAX_EVENTS = 5_000_000
"""Newest learned events that count."""
MAX_TUNED, MIN_TUNED, TUNED_CELLS = 2_000, 100, 30_000_000
"""Requests that the knobs are chosen on, drawn at random; fewer where there are many products."""
FADINGS = (0.5, 0.7, 0.85, 1.0)
REPEATS = (0.0, 0.2, 1.0)
SHRINKAGES = (0.0, 10.0)
BLOCK = 2_048


class Knobs(NamedTuple):
    """What is tuned."""

    shrinkage: float
    fading: float
    repeat: float


@dataclass(frozen=True, eq=False)
class ItemKnn:
    """Scores products by their similarity to those of the request's history."""

    task: NextProductTask
    similarities: sparse.csr_array  # [P, P], without a product's own
    fading: float
    """The weight of an event, relative to the one after it."""
    repeat: float
    """The similarity of a product to itself."""
    name: str = "item-knn"

    def scores(self, requests: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns [n, P]; what nothing seen is similar to stands in the order of its events."""
        position, product, age = self.task.seen(requests, newest=MAX_HISTORY)
        weights = (self.fading**age).astype(np.float32)
        shape = (len(requests), self.task.n_products)
        history = sparse.csr_array((weights, (position, product)), shape=shape)
        popularity = self.task.popularity / (self.task.popularity.max(initial=0) + 1)
        similar = (history @ self.similarities + self.repeat * history).toarray()
        scores: NDArray[np.float32] = similar.astype(np.float32)
        scores += (1e-6 * popularity).astype(np.float32)
        return scores


def fit_item_knn(
    task: NextProductTask, *, seed: int, seen_filter: bool = True, on_progress: Progress = silent
) -> ItemKnn:
    """Returns the item-kNN whose knobs rank the last learned events best, fitted to all learned.

    What suits a ranking without the products seen does not suit one with them.
    """
    limit = int(np.clip(TUNED_CELLS // task.n_products, MIN_TUNED, MAX_TUNED))
    tuning = last_learned(task).sample(limit, seed)
    repeats = REPEATS[:1] if seen_filter else REPEATS
    best, highest = Knobs(SHRINKAGES[-1], FADINGS[1], REPEATS[0]), -1.0
    for n, shrinkage in enumerate(SHRINKAGES if len(tuning) else ()):
        similarities = cosine_neighbors(tuning, shrinkage)
        for fading, repeat in grid(FADINGS, repeats):
            scorer = ItemKnn(tuning, similarities, fading, repeat)
            ranks = rank_products(tuning, scorer, seen_filter=seen_filter).ranks
            ndcg = float(of_ranks(ranks, (10,))["ndcg", 10].mean())
            if ndcg > highest:
                best, highest = Knobs(shrinkage, fading, repeat), ndcg
        on_progress("tuning item-knn", n + 1, len(SHRINKAGES))
    return ItemKnn(task, cosine_neighbors(task, best.shrinkage), best.fading, best.repeat)


def cosine_neighbors(task: NextProductTask, shrinkage: float) -> sparse.csr_array:
    """Returns [P, P] cosines over the shoppers that had both, the largest of each product only.

    A shopper counts less the more products they had; shrinkage lowers the cosines of products that
    few had.
    """
    shoppers = shopper_products(task)  # [P, S]
    norms = np.sqrt(shoppers.multiply(shoppers).sum(axis=1)) + 1e-12
    blocks = []
    for start in range(0, task.n_products, BLOCK):
        rows = slice(start, start + BLOCK)
        shared = sparse.coo_array(shoppers[rows] @ shoppers.T)
        product, other = shared.coords
        product = product + start
        cosine = shared.data / (norms[product] * norms[other] + shrinkage)
        blocks.append(largest(product, other, cosine, NEIGHBORS))
    kept = np.concatenate(blocks, axis=1)
    shape = (task.n_products, task.n_products)
    rows, columns = kept[0].astype(np.int64), kept[1].astype(np.int64)
    return sparse.csr_array((kept[2].astype(np.float32), (rows, columns)), shape=shape)


def shopper_products(task: NextProductTask) -> sparse.csr_array:
    """Returns [P, S]: the products of each shopper's newest learned events, fewer counting more."""
    known = np.flatnonzero(task.learned & (task.products >= 0))
    if len(known) > MAX_EVENTS:
        newest_first = np.argsort(-task.event_times[known], kind="stable")
        known = np.sort(known[newest_first[:MAX_EVENTS]])
    owners = task.event_shoppers[known]
    behind = np.searchsorted(owners, owners, side="right")
    newest = behind - np.arange(len(known)) <= MAX_HISTORY
    known, owners = known[newest], owners[newest]
    shape = (task.n_products, len(task.offsets) - 1)
    table = sparse.csr_array((np.ones(len(known)), (task.products[known], owners)), shape=shape)
    table.data[:] = 1.0  # having it twice is having it
    n_products = np.asarray(table.sum(axis=0)).ravel()
    weights = 1.0 / np.sqrt(1.0 + np.log1p(n_products))
    return sparse.csr_array(table @ sparse.diags_array(weights))


def largest(
    product: NDArray[np.int64], other: NDArray[np.int64], cosine: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Returns [3, M]: of each product the n other products with the largest cosine."""
    apart = product != other
    product, other, cosine = product[apart], other[apart], cosine[apart]
    order = np.lexsort((other, -cosine, product))
    product, other, cosine = product[order], other[order], cosine[order]
    place = np.arange(len(product)) - np.searchsorted(product, product)
    kept = place < n
    return np.stack([product[kept], other[kept], cosine[kept]])
