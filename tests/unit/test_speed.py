"""What the speed benchmark makes of the turns it measured, and the task it gives to all."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.batches import Batches, cut_windows
from shopintent.trainer.benchmarks.own_engine import OwnEngine, task_of
from shopintent.trainer.benchmarks.speed import SpeedResult, Turn, rows_of, table
from shopintent.trainer.fit_network import Fit
from shopintent.trainer.peers.engine import Step
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import LeaveOneOut
from support.learning import (
    GAP_S,
    N_PRODUCTS,
    TINY,
    VIEW,
    Did,
    make_network,
    make_sampler,
    sequences_of,
)

TURNS = {
    "shopintent": [Turn(9.0, 10, 0.1), Turn(2.0, 100, 0.3), Turn(1.0, 100, 0.4)],
    "peer": [Turn(1.0, 10, 0.0), Turn(5.0, 10, 0.1), Turn(3.0, 10, 0.2)],
}


def sequences() -> Sequences:
    """Three shoppers, of whom the last has too little to be judged."""
    walks = [[3, 4, 5, 6, 7], [8, 9, 10, 11], [5]]
    return sequences_of(
        [[Did(100 * n, VIEW, product) for n, product in enumerate(walk)] for walk in walks]
    )


def fit() -> Fit:
    own = sequences()
    spans = LeaveOneOut().training(own), LeaveOneOut().validation(own)
    training, validation = (
        Batches(own, cut_windows(own, span, 16), span, GAP_S, batch_events=128) for span in spans
    )
    inputs = SimpleNamespace(sequences=own, product_ids=tuple(map(str, range(N_PRODUCTS))))
    return Fit(
        make_network(random=False),
        make_sampler(),
        training,
        validation,
        tokenizer=None,  # type: ignore[arg-type]
        catalog=None,  # type: ignore[arg-type]
        inputs=inputs,  # type: ignore[arg-type]
    )


def values(metric: str) -> dict[str, float]:
    rows = rows_of(TURNS, epoch_targets=100, seed=7)
    return {row.model: row.value for row in rows if row.metric == metric}


def test_the_first_turn_tells_nothing_of_the_speed() -> None:
    assert values("seconds_per_epoch") == {"shopintent": 1.5, "peer": 40.0}
    assert values("seconds_per_epoch_slowest") == {"shopintent": 2.0, "peer": 50.0}
    assert values("epochs") == {"shopintent": 2.1, "peer": pytest.approx(0.3)}


def test_the_time_to_the_same_quality_is_that_to_the_best_of_the_worst() -> None:
    assert values("ndcg_within_reach") == {"shopintent": 0.2, "peer": 0.2}
    assert values("seconds_to_ndcg") == {"shopintent": 11.0, "peer": 9.0}


def test_the_table_has_a_line_for_everybody() -> None:
    lines = table(SpeedResult({}, rows_of(TURNS, epoch_targets=100, seed=7))).splitlines()
    assert lines[2] == "| shopintent | 1.5 | 1.0-2.0 | 2.1 | 0.4000 | 11 |"
    assert lines[3].startswith("| peer | 40.0 | 30.0-50.0 |")


def test_everybody_learns_from_and_is_judged_on_the_same() -> None:
    own = fit()
    task = task_of(own)
    assert (task.training.products + FIRST).tolist() == [3, 4, 5, 8, 9]
    assert task.training.offsets.tolist() == [0, 3, 5]
    assert (task.validation.products + FIRST).tolist() == [3, 4, 5, 8, 9]
    assert (task.validation_targets + FIRST).tolist() == [6, 10]
    asked = [batch.product_labels[batch.product_labels > 0] for batch in own.validation.in_order()]
    assert sorted(np.concatenate(asked).tolist()) == [6, 10]
    assert task.seen_filter


def test_our_engine_trains_epoch_after_epoch_until_it_is_told_to_stop() -> None:
    own = fit()
    engine, steps = OwnEngine(own, TINY), []
    before = {name: each.clone() for name, each in own.network.state_dict().items()}

    def goes_on(step: Step) -> bool:
        steps.append(step.n_targets)
        assert engine.validate() >= 0.0
        return len(steps) < 45  # an epoch has 40 batches at least

    engine.train(goes_on)
    assert steps == [3] * 45  # all but the first of both shoppers
    assert engine.state.epoch == 1
    assert own.network.training
    changed = [
        name for name, each in own.network.state_dict().items() if not each.equal(before[name])
    ]
    assert "position.weight" in changed


def test_a_step_that_is_the_last_ends_the_training_at_once() -> None:
    engine, steps = OwnEngine(fit(), TINY), []
    engine.train(lambda step: bool(steps.append(step)))  # type: ignore[func-returns-value]
    assert len(steps) == 1
