"""Ranking the whole catalog against a slow reference, and what the baselines recommend."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from shopintent.trainer.evaluation import next_product
from shopintent.trainer.evaluation.baselines import item_knn
from shopintent.trainer.evaluation.baselines.item_knn import cosine_neighbors, fit_item_knn
from shopintent.trainer.evaluation.baselines.popular import Popular, PopularLately
from shopintent.trainer.evaluation.next_product import (
    EmbeddingScorer,
    NextProductTask,
    Scorer,
    ScoresError,
    last_learned,
    rank_of,
    rank_products,
    top_of,
)
from shopintent.trainer.evaluation.ranking import ProductContent, ranking_rows

DAY = 86_400


def task_of(
    histories: list[list[int]],
    *,
    n_products: int,
    n_learned: int = 10**9,
    n_held_out: int = 1,
    times: list[list[int]] | None = None,
) -> NextProductTask:
    """Returns the task to foretell the last products; as many as `n_learned` of each are known."""
    sizes = np.array(list(map(len, histories)))
    offsets = np.append(0, sizes.cumsum())
    place = np.concatenate([np.arange(size) for size in sizes])
    last = offsets[1:] - n_held_out
    products = np.concatenate([np.array(each) for each in histories])
    at = [list(range(0, DAY * len(each), DAY)) for each in histories] if times is None else times
    event_times = np.concatenate([np.array(each) for each in at])
    behind = np.repeat(sizes, sizes) - place
    return NextProductTask(
        split="time", n_products=n_products, offsets=offsets, products=products,
        event_times=event_times, learned=(behind > n_held_out) & (place < n_learned),
        shoppers=np.arange(len(sizes)), ends=last, request_times=event_times[last],
        targets=products[last],
    )  # fmt: skip


def random_task(*, seed: int, n_products: int = 40, n_shoppers: int = 60) -> NextProductTask:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, n_shoppers)
    return task_of(
        [
            [*rng.integers(-1, n_products, size).tolist(), int(rng.integers(n_products))]
            for size in sizes
        ],
        n_products=n_products,
    )


@dataclass(frozen=True, eq=False)
class Fixed:
    """Scores by a table."""

    table: NDArray[np.float32]
    name: str = "fixed"

    def scores(self, requests: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.table[requests]


def test_a_rank_is_the_number_of_better_products_and_of_half_the_equal_ones() -> None:
    scores = np.array(
        [[0.9, 0.5, 0.1], [0.5, 0.5, 0.5], [0.1, 0.5, 0.9], [0.3, 0.3, 0.1]], np.float32
    )
    assert rank_of(scores, np.array([0, 1, 0, 0])).tolist() == [0, 1, 2, 0]
    assert rank_of(np.zeros((1, 101), np.float32), np.array([7])).tolist() == [50]


@pytest.mark.parametrize("seen_filter", [False, True])
def test_ranks_and_lists_agree_with_sorting_every_request(
    seen_filter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_product, "SCORE_CELLS", 7 * 40)  # several chunks, the last one short
    task = random_task(seed=3)
    table = np.random.default_rng(1).permutation(60 * 40).reshape(60, 40).astype(np.float32)
    ranking = rank_products(task, Fixed(table), seen_filter=seen_filter)
    for n in range(len(task)):
        history = task.products[task.begins[n] : task.ends[n]].tolist()
        ranked = sorted(range(40), key=lambda product: -table[n, product])
        left = [product for product in ranked if not (seen_filter and product in history)]
        if task.targets[n] in left:
            assert ranking.ranks[n] == left.index(task.targets[n])
        else:
            assert ranking.ranks[n] >= len(left)
        assert ranking.top[n].tolist() == left[:20]


def test_ranking_leaves_the_scores_of_the_model_as_they_are() -> None:
    task, table = random_task(seed=3), np.ones((60, 40), np.float32)
    rank_products(task, Fixed(table), seen_filter=True)
    assert (table == 1).all()


def test_embeddings_are_scored_by_their_inner_product() -> None:
    rng = np.random.default_rng(5)
    behaviors, products = (rng.normal(size=(n, 4)).astype(np.float32) for n in (6, 9))
    scores = EmbeddingScorer("m", behaviors, products).scores(np.array([4, 0]))
    assert scores[0, 3] == pytest.approx(float(behaviors[4] @ products[3]), rel=1e-5)
    assert scores.shape == (2, 9)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.full((60, 40), np.nan, np.float32), "fixed gives scores that are not numbers"),
        (np.zeros((60, 3), np.float32), "of shape"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(table: NDArray[np.float32], message: str) -> None:
    with pytest.raises(ScoresError, match=message):
        rank_products(random_task(seed=3), Fixed(table), seen_filter=False)


def test_a_catalog_smaller_than_the_list_is_recommended_whole() -> None:
    assert top_of(np.array([[0.1, 0.3, 0.2]], np.float32), 20).tolist() == [[1, 2, 0]]


def test_cold_is_what_no_learned_event_tells_of() -> None:
    task = task_of([[0, 1, 2], [1, 3], [4, 2]], n_products=5)
    task = replace(task, learned=np.array([1, 1, 0, 1, 0, 0, 0], bool))
    slices = {name: group.tolist() for name, group in task.slices().items()}
    assert slices == {
        "cold-shoppers": [False, False, True],
        "warm-shoppers": [True, True, False],
    }  # 2 and 3 are both unknown, so there is no group of cold products alone
    known = replace(task, learned=np.array([1, 1, 1, 1, 0, 0, 0], bool)).slices()
    assert known["cold-products"].tolist() == [False, True, False]


def test_a_sample_is_drawn_at_random_and_again_by_its_seed() -> None:
    task = random_task(seed=2)
    first, again, other = (task.sample(20, seed) for seed in (1, 1, 2))
    assert len(first) == 20
    assert np.array_equal(first.ends, again.ends)
    assert not np.array_equal(first.ends, other.ends)
    assert len(task.sample(1_000, 1)) == 60


def test_tuning_asks_for_the_last_learned_event_and_learns_from_none_of_the_held_out() -> None:
    task = task_of([[0, 1, 2, 3], [4, -1, 5], [1, 2]], n_products=6)
    tuning = last_learned(task)
    assert tuning.targets.tolist() == [2]  # the others have nothing before their last one
    assert tuning.ends.tolist() == [2]
    assert np.flatnonzero(tuning.learned).tolist() == [0, 1, 4, 5, 7]


def test_popular_products_are_those_with_the_most_learned_events() -> None:
    task = task_of([[0, 0, 1, 2], [1, 0, 2], [-1, 0, 2]], n_products=4)
    assert Popular(task).scores(np.arange(2)).tolist() == [[4, 2, 0, 0]] * 2


def test_popular_lately_knows_the_week_before_the_day_of_the_request_and_no_more() -> None:
    times = [[0, 8 * DAY, 9 * DAY + 5], [2 * DAY, 9 * DAY + 1, 20 * DAY]]
    task = task_of([[0, 1, 2], [0, 3, 2]], n_products=4, times=times)
    first, second = PopularLately(task).scores(np.arange(2))
    # Asked on day 9: the week holds product 0 of day 2 and product 1 of day 8; that of today not.
    assert np.floor(first).tolist() == [1, 1, 0, 0]
    assert first[0] > first[1]  # more often before
    # Asked on day 20, after all that was learned: the last week of that.
    assert np.floor(second).tolist() == [0, 1, 0, 1]


def test_neighbors_are_cosines_of_the_shoppers_who_had_both() -> None:
    task = task_of([[0, 1, 3], [0, 1, 3], [1, 2, 3]], n_products=4)
    similarities = cosine_neighbors(task, 0.0).toarray()
    assert similarities[0, 1] == pytest.approx(2 / math.sqrt(2 * 3), rel=1e-5)
    assert similarities[1, 2] == pytest.approx(1 / math.sqrt(3 * 1), rel=1e-5)
    assert similarities[0, 2] == 0
    assert (similarities.diagonal() == 0).all()
    assert not similarities[3].any()  # held out


def test_item_knn_finds_what_goes_together() -> None:
    rng = np.random.default_rng(0)
    pairs = [[2 * each, 2 * each + 1] for each in rng.integers(0, 20, 300)]
    histories = [[*pairs[n], *pairs[n + 1]] for n in range(0, 298)]
    task = task_of(histories, n_products=40)
    knn = fit_item_knn(task, seen_filter=False, seed=1)
    found = (rank_products(task, knn, seen_filter=False).ranks < 3).mean()
    chance = (rank_products(task, Popular(task), seen_filter=False).ranks < 3).mean()
    assert found > 0.9
    assert chance < 0.3


def test_item_knn_learns_that_shoppers_come_back_to_what_they_saw() -> None:
    rng = np.random.default_rng(0)
    histories = [[int(each)] * 4 for each in rng.integers(0, 30, 200)]
    knn = fit_item_knn(task_of(histories, n_products=30), seen_filter=False, seed=1)
    assert knn.repeat > 0
    assert (rank_products(knn.task, knn, seen_filter=False).ranks == 0).all()


def test_item_knn_counts_the_newest_events_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = task_of([[0, 1, 2, 3], [0, 1, 2, 3]], n_products=4)
    assert cosine_neighbors(task, 0.0).toarray()[0, 1] > 0
    monkeypatch.setattr(item_knn, "MAX_EVENTS", 4)
    newest = cosine_neighbors(task, 0.0).toarray()
    assert newest[1, 2] > 0
    assert newest[0, 1] == 0


def test_item_knn_without_anything_learned_ranks_all_alike() -> None:
    task = task_of([[0, 1], [2, 3]], n_products=5, n_learned=0)
    knn = fit_item_knn(task, seen_filter=True, seed=1)
    assert not knn.scores(np.arange(2)).any()


def test_rows_say_how_often_lists_hold_the_product_and_what_they_are_like() -> None:
    task = random_task(seed=6)
    rng = np.random.default_rng(2)
    good = rng.random((60, 40)).astype(np.float32)
    good[np.arange(60), task.targets] += 0.5
    models: list[Scorer] = [Fixed(good, "shopintent"), Popular(task)]
    rankings = [
        rank_products(task, each, seen_filter=False, seed=n) for n, each in enumerate(models)
    ]
    texts = rng.normal(size=(40, 8)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    rows = ranking_rows(task, rankings, ProductContent(texts, np.zeros(40, np.int64)))
    value = {(row.model, row.metric, row.k): row for row in rows if row.slice == "all"}
    ours = value["shopintent", "hr", 10]
    assert ours.value == pytest.approx((rankings[0].ranks < 10).mean())
    assert ours.ci is not None
    assert ours.ci[0] <= ours.value <= ours.ci[1]
    assert (ours.split, ours.seen_filter, ours.seed, ours.samples) == ("time", False, 0, 60)
    assert value["popular", "coverage", 10].value == pytest.approx(10 / 40)
    top = rankings[1].top[0, :10]
    assert value["popular", "popularity", 10].value == pytest.approx(task.popularity[top].mean())
    pairs = [1 - float(texts[a] @ texts[b]) for a in top for b in top if a != b]
    assert value["popular", "diversity", 10].value == pytest.approx(sum(pairs) / 90, rel=1e-4)
    above = value["shopintent", "ndcg_minus_popular", 10]
    assert above.value == pytest.approx(
        value["shopintent", "ndcg", 10].value - value["popular", "ndcg", 10].value
    )
    assert above.ci is not None
    assert above.ci[0] > 0


def test_without_text_diversity_is_told_by_category() -> None:
    content = ProductContent(None, np.array([0, 0, 1, 2]))
    lists = np.array([[0, 1, 2], [1, 2, 3]], np.int32)
    assert content.distances(lists).tolist() == pytest.approx([2 / 3, 1.0])
    assert "category" in content.diversity
