"""Ranks the whole catalog for every request and says how high the product stood that came next.

Products with equal scores share their middle rank. Candidates are never sampled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.data.progress import Progress, silent

KS = (1, 5, 10, 20)
SCORE_CELLS = 16_000_000
"""Scores held at a time: a float32 each."""
TIE_ORDER = "products with equal scores share their middle rank"


class ScoresError(ValueError):
    """A scorer gave scores that cannot be ranked; the message names it."""


class Scorer(Protocol):
    """Something that says how well every product of the catalog fits a request."""

    @property
    def name(self) -> str:
        """The model's name in the table."""

    def scores(self, requests: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns [n, P] scores of the task's requests with these numbers; higher is better."""


@dataclass(frozen=True, eq=False)
class NextProductTask:
    """N requests, all that may be known of them, and the product that came.

    The events stand as in `Sequences`: shopper after shopper, oldest first. A request sees the rows
    from `begins` up to `ends` and is asked at `request_times`.
    """

    split: str
    """"time" or "leave-one-out"."""
    n_products: int
    offsets: NDArray[np.int64]
    """[S + 1], where each shopper's events begin."""
    products: NDArray[np.int64]
    """[E], the catalog row of each event's product, or -1."""
    event_times: NDArray[np.int64]
    """[E], unix seconds."""
    learned: NDArray[np.bool_]
    """[E], which events the models could learn from."""
    shoppers: NDArray[np.int64]
    """[N], as `offsets` counts them."""
    ends: NDArray[np.int64]
    """[N], the first row that is not seen."""
    request_times: NDArray[np.int64]
    """[N], unix seconds."""
    targets: NDArray[np.int64]
    """[N], the catalog row of the product that came."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def begins(self) -> NDArray[np.int64]:
        """[N], the first row that each request sees."""
        return self.offsets[self.shoppers]

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """[P], learned events of each product."""
        known = self.products[self.learned & (self.products >= 0)]
        return np.bincount(known, minlength=self.n_products)

    @cached_property
    def event_shoppers(self) -> NDArray[np.int64]:
        """[E], whose event it is."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def slices(self) -> dict[str, NDArray[np.bool_]]:
        """Returns the groups of requests, each [N], that are judged by themselves.

        Cold is what no learned event tells of. Groups of all or of none are left out.
        """
        events = np.bincount(
            self.event_shoppers, weights=self.learned, minlength=len(self.offsets) - 1
        )
        cold_shopper = events[self.shoppers] == 0
        cold_product = self.popularity[self.targets] == 0
        groups = {
            "cold-shoppers": cold_shopper,
            "warm-shoppers": ~cold_shopper,
            "cold-products": cold_product,
            "warm-products": ~cold_product,
        }
        return {name: group for name, group in groups.items() if 0 < group.sum() < len(group)}

    def sample(self, limit: int, seed: int) -> NextProductTask:
        """Returns the task of at most that many requests, drawn at random."""
        if len(self) <= limit:
            return self
        drawn = np.random.default_rng(seed).choice(len(self), limit, replace=False)
        return self.take(np.sort(drawn))

    def take(self, requests: NDArray[np.int64] | NDArray[np.bool_]) -> NextProductTask:
        """Returns the task of some requests."""
        names = ("shoppers", "ends", "request_times", "targets")
        return replace(self, **{name: getattr(self, name)[requests] for name in names})

    def seen(
        self, requests: NDArray[np.int64], newest: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Returns what was seen: position in `requests`, catalog row, age; flat, oldest first.

        Age counts the events behind it: the last event seen has age 0. Only the newest events of
        each request are told where that is asked for.
        """
        begins, ends = self.begins[requests], self.ends[requests]
        if newest is not None:
            begins = np.maximum(begins, ends - newest)
        sizes = ends - begins
        position = np.repeat(np.arange(len(requests)), sizes)
        first = np.repeat(sizes.cumsum() - sizes, sizes)
        event = begins[position] + np.arange(len(position)) - first
        product = self.products[event]
        age = ends[position] - 1 - event
        shown = product >= 0
        return position[shown], product[shown], age[shown]


@dataclass(frozen=True, eq=False)
class EmbeddingScorer:
    """Scores by the inner product of behavior and product embeddings."""

    name: str
    behavior_embeddings: NDArray[np.float32]  # [N, D]
    product_embeddings: NDArray[np.float32]  # [P, D]

    def scores(self, requests: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns [n, P] scores."""
        scores: NDArray[np.float32] = self.behavior_embeddings[requests] @ self.product_embeddings.T
        return scores


@dataclass(frozen=True, eq=False)
class Ranking:
    """What one model recommended for every request of a task."""

    model: str
    seed: int | None
    seen_filter: bool
    ranks: NDArray[np.int64]
    """[N], how many products stood above the one that came."""
    top: NDArray[np.int32]
    """[N, 20 or all], the products recommended, best first."""


def rank_products(
    task: NextProductTask,
    scorer: Scorer,
    *,
    seen_filter: bool,
    seed: int | None = None,
    on_progress: Progress = silent,
) -> Ranking:
    """Ranks the whole catalog for every request, some requests at a time.

    With the filter, products that the request has seen are not recommended, so that a repeat is
    never found. Raises ScoresError when scores are missing or of the wrong shape.
    """
    at_once = max(1, SCORE_CELLS // task.n_products)
    ranks, tops = [], []
    for start in range(0, len(task), at_once):
        requests = np.arange(start, min(start + at_once, len(task)))
        scores = checked(scorer, requests, task.n_products)
        if seen_filter:
            position, product, _ = task.seen(requests)
            scores[position, product] = -np.inf
        ranks.append(rank_of(scores, task.targets[requests]))
        tops.append(top_of(scores, max(KS)))
        on_progress(f"ranking by {scorer.name}", int(requests[-1]) + 1, len(task))
    return Ranking(scorer.name, seed, seen_filter, np.concatenate(ranks), np.concatenate(tops))


def checked(scorer: Scorer, requests: NDArray[np.int64], n_products: int) -> NDArray[np.float32]:
    """Returns a copy of the scores, which may be written to."""
    scores = np.array(scorer.scores(requests), np.float32)
    if scores.shape != (len(requests), n_products):
        shape = (len(requests), n_products)
        raise ScoresError(f"{scorer.name} gives scores of shape {scores.shape}, not {shape}")
    if np.isnan(scores.max(1)).any():
        raise ScoresError(f"{scorer.name} gives scores that are not numbers")
    return scores


def rank_of(scores: NDArray[np.float32], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the rank of the wanted column in each row of [N, P]; ties count half above it."""
    own = scores[np.arange(len(wanted)), wanted][:, None]
    above, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
    rank: NDArray[np.int64] = above + equal // 2
    return rank


def top_of(scores: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Returns [N, at most k] columns with the highest scores, best first."""
    n_products = scores.shape[1]
    k = min(k, n_products)
    columns = np.argpartition(scores, n_products - k, axis=1)[:, n_products - k :]
    best = np.argsort(-np.take_along_axis(scores, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, best, axis=1).astype(np.int32)


def last_learned(task: NextProductTask) -> NextProductTask:
    """Returns a task to tune on: every shopper's last learned event, asked when it came.

    Nothing held out is part of it, and what is asked for is not learned from.
    """
    known = np.flatnonzero(task.learned & (task.products >= 0))
    owners = task.event_shoppers[known]
    last = known[np.append(owners[1:] != owners[:-1], True)[: len(known)]]
    last = last[last > task.offsets[task.event_shoppers[last]]]  # with something to go by
    learned = task.learned.copy()
    learned[last] = False
    return replace(
        task,
        learned=learned,
        shoppers=task.event_shoppers[last],
        ends=last,
        request_times=task.event_times[last],
        targets=task.products[last],
    )
