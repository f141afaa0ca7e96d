"""Rows of ranked lists: how often they hold the product that came, and what they are like.

What lists are like: how much of the catalog they cover, how popular what they show is (ARP, Yin et
al. 2012, https://arxiv.org/abs/1205.6700), how novel, and how different the products of one list
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts.metrics import ALL, MetricRow
from shopintent.trainer.evaluation.bootstrap import Estimate, bootstrap
from shopintent.trainer.evaluation.comparison import Judged, difference_rows, rows_of
from shopintent.trainer.evaluation.metrics import of_means, of_ranks
from shopintent.trainer.evaluation.next_product import KS, NextProductTask, Ranking

LIST_K = 10
"""The length of the lists that popularity, novelty and diversity are told of."""
CHUNK = 1_024


@dataclass(frozen=True, eq=False)
class ProductContent:
    """What products have in common, which diversity is told by."""

    text_embeddings: NDArray[np.float32] | None
    """[P, E], L2-normalized; None where the log has no text."""
    categories: NDArray[np.int64]
    """[P], any number a category; used where there is no text."""

    @property
    def diversity(self) -> str:
        """What "diversity" means here."""
        if self.text_embeddings is None:
            return f"the share of pairs of a list's {LIST_K} products that differ in category"
        return f"the mean cosine distance between the texts of a list's {LIST_K} products"

    def distances(self, lists: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns [N]: the mean distance of the pairs of each list [N, k]."""
        k = lists.shape[1]
        if k < 2:
            return np.zeros(len(lists))
        if self.text_embeddings is None:
            own = self.categories[lists]
            alike = (own[:, :, None] == own[:, None, :]).sum((1, 2))
        else:
            alike = (self.text_embeddings[lists].sum(1) ** 2).sum(1)
        apart: NDArray[np.float64] = 1 - (alike - k) / (k * (k - 1))
        return apart


def ranking_rows(
    task: NextProductTask, rankings: Sequence[Ranking], content: ProductContent
) -> list[MetricRow]:
    """Returns the rows of models that ranked the same task with the same filter."""
    rows = found_rows(task, rankings)
    for ranking in rankings:
        rows += list_rows(task, ranking, content)
    return rows


def found_rows(task: NextProductTask, rankings: Sequence[Ranking]) -> list[MetricRow]:
    """Returns how often the models found the product that came, without what lists are like."""
    rows: list[MetricRow] = []
    for name, group in {ALL: np.ones(len(task), bool), **task.slices()}.items():
        found = [found_at(each.ranks[group], task.shoppers[group]) for each in rankings]
        for k in KS:
            judged = [
                Judged(each.model, each.seed, at[k])
                for each, at in zip(rankings, found, strict=True)
            ]
            protocol: dict[str, Any] = {
                "split": task.split, "seen_filter": rankings[0].seen_filter, "k": k,
                "slice": name, "samples": int(group.sum()),
            }  # fmt: skip
            rows += rows_of(judged, **protocol)
            rows += difference_rows(judged, ("hr", "ndcg", "mrr"), **protocol)
    return rows


def found_at(
    ranks: NDArray[np.int64], shoppers: NDArray[np.int64]
) -> dict[int, dict[str, Estimate]]:
    """Returns hit rate, NDCG and MRR at every k."""
    values = {f"{name}@{k}": each for (name, k), each in of_ranks(ranks, KS).items()}
    estimates = bootstrap(of_means(values), shoppers)
    return {k: {name: estimates[f"{name}@{k}"] for name in ("hr", "ndcg", "mrr")} for k in KS}


def list_rows(task: NextProductTask, ranking: Ranking, content: ProductContent) -> list[MetricRow]:
    """Returns what one model's lists are like."""
    lists = ranking.top[:, :LIST_K]
    protocol: dict[str, Any] = {
        "split": task.split, "seen_filter": ranking.seen_filter, "samples": len(task),
    }  # fmt: skip
    popularity = task.popularity.astype(np.float64)
    surprise = -np.log2((popularity + 1) / (popularity.sum() + len(popularity)))
    chunks = [lists[start : start + CHUNK] for start in range(0, len(lists), CHUNK)]
    values = {
        "popularity": popularity[lists].mean(1),
        "novelty": surprise[lists].mean(1),
        "diversity": np.concatenate([content.distances(chunk) for chunk in chunks]),
    }
    judged = Judged(ranking.model, ranking.seed, bootstrap(of_means(values), task.shoppers))
    covered = [
        MetricRow(
            model=ranking.model, metric="coverage", k=k, seed=ranking.seed,
            value=len(np.unique(ranking.top[:, :k])) / task.n_products, **protocol,
        )
        for k in KS
    ]  # fmt: skip
    return [*rows_of([judged], k=LIST_K, **protocol), *covered]
