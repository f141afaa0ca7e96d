from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopintent.trainer.peers.engine import Step, ndcg_at_10
from shopintent.trainer.peers.exchange import (
    Embeddings,
    Histories,
    Task,
    load_embeddings,
    load_task,
    save_embeddings,
    save_histories,
    save_task,
)
from shopintent.trainer.peers.process import PEERS_VARIABLE, PeersError, peers_python
from shopintent.trainer.peers.worker import EMBEDDINGS_FILE, HISTORIES_FILE, serve


def histories(*products: list[int]) -> Histories:
    sizes = [len(each) for each in products]
    return Histories(
        np.array([row for each in products for row in each], np.int32), np.cumsum([0, *sizes])
    )


def small_task(*, seen_filter: bool = False) -> Task:
    return Task(
        n_products=3,
        training=histories([0, 1], [1, 2]),
        validation=histories([0], [1]),
        validation_targets=np.array([1, 2], np.int32),
        seen_filter=seen_filter,
    )


def embeddings(*queries: list[float], known: tuple[bool, ...] = (True, True, True)) -> Embeddings:
    """Products on axes of their own, so that a query lists its scores."""
    return Embeddings(np.eye(3, dtype=np.float32), np.array(known), np.array(queries, np.float32))


class CountingEngine:
    """Ranks the target first after its second epoch of two batches, and last in all others."""

    versions = ("counting 1",)

    def __init__(self) -> None:
        self.n_batches = 0
        self.kept = 0

    def train(self, goes_on: Callable[[Step], bool]) -> None:
        self.n_batches += 1
        while goes_on(Step(n_targets=5, last_of_epoch=self.n_batches % 2 == 0)):
            self.n_batches += 1

    def validate(self) -> float:
        return ndcg_at_10(self.embed(small_task().validation), small_task())

    def embed(self, histories: Histories) -> Embeddings:
        score = 1.0 if self.n_batches == 4 else -1.0
        return embeddings(*[[0.0, score, score] for _ in range(len(histories))])

    def remember(self) -> None:
        self.kept = self.n_batches

    def recall(self) -> None:
        self.n_batches = self.kept


def test_histories_are_padded_in_front_and_cut_to_their_last_products() -> None:
    padded = histories([0, 1, 2, 3], [], [7]).padded(3)
    assert padded.tolist() == [[2, 3, 4], [0, 0, 0], [0, 0, 8]]


def test_a_target_that_is_ranked_first_gains_one_and_a_second_less() -> None:
    found = embeddings([0.0, 2.0, 1.0], [0.0, 2.0, 1.0])
    assert ndcg_at_10(found, small_task()) == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_products_of_the_history_do_not_stand_in_the_way_when_seen_products_are_filtered() -> None:
    found = embeddings([3.0, 2.0, 1.0], [1.0, 3.0, 2.0])
    assert ndcg_at_10(found, small_task(seen_filter=True)) == 1.0
    assert ndcg_at_10(found, small_task()) < 1.0


def test_scoring_everything_alike_gains_nothing_over_the_middle() -> None:
    alike = embeddings([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    assert ndcg_at_10(alike, small_task()) == pytest.approx(1 / np.log2(3))


def test_a_product_unknown_to_training_is_ranked_behind_all_others() -> None:
    scores = embeddings([0.0, 9.0, 1.0], known=(True, False, True)).scores(slice(None))
    assert scores[0].tolist() == [0.0, -np.inf, 1.0]


def test_a_task_and_embeddings_survive_the_way_through_files(tmp_path: Path) -> None:
    save_task(tmp_path / "task.npz", small_task(seen_filter=True))
    task = load_task(tmp_path / "task.npz")
    assert task.seen_filter
    assert task.n_products == 3
    assert task.training.products.tolist() == [0, 1, 1, 2]
    assert task.validation.offsets.tolist() == [0, 1, 2]
    save_embeddings(tmp_path / "embeddings.npz", embeddings([1.0, 2.0, 3.0]))
    assert load_embeddings(tmp_path / "embeddings.npz").queries.tolist() == [[1.0, 2.0, 3.0]]


def test_a_fit_ends_when_validation_gets_no_better_and_answers_by_the_best_epoch(
    tmp_path: Path,
) -> None:
    save_histories(tmp_path / HISTORIES_FILE, histories([0]))
    answers: list[dict[str, Any]] = []
    command = {"do": "fit", "max_epochs": 9, "patience": 2, "max_seconds": 1e9}
    serve(CountingEngine(), tmp_path, iter([command]), answers.append)
    assert answers[-1]["done"]
    assert np.argmax(answers[-1]["history"]) == 1
    assert len(answers[-1]["history"]) == 4
    assert load_embeddings(tmp_path / EMBEDDINGS_FILE).queries.tolist() == [[0.0, 1.0, 1.0]]


def test_a_fit_that_runs_out_of_time_is_judged_where_it_stands(tmp_path: Path) -> None:
    save_histories(tmp_path / HISTORIES_FILE, histories([0]))
    answers: list[dict[str, Any]] = []
    command = {"do": "fit", "max_epochs": 9, "patience": 2, "max_seconds": -1.0}
    serve(CountingEngine(), tmp_path, iter([command]), answers.append)
    assert len(answers[-1]["history"]) == 1


def test_slices_go_on_from_one_another_and_end_with_the_commands(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = []
    commands = iter([{"do": "slice", "seconds": 0.0}] * 3)
    engine = CountingEngine()
    serve(engine, tmp_path, commands, answers.append)
    slices = [each for each in answers if "n_targets" in each]
    assert [each["n_targets"] for each in slices] == [5, 5, 5]
    assert engine.n_batches == 3


def test_without_the_peers_environment_the_error_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PEERS_VARIABLE, str(tmp_path))
    with pytest.raises(PeersError, match="make peers"):
        peers_python()
