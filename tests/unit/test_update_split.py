"""What an update may learn from: never the slice that tells whether the past is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.batches import cut_windows
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.update.split import UpdateSplit, without_old_slice
from support.learning import VIEW, Did, sequences_of

OLD_CUT, NEW_FROM, VALIDATE_FROM, CUT = 1_000, 2_000, 3_000, 4_000
PARTS = {"old": 500, "old slice": 1_500, "new": 2_500, "validation": 3_500, "newest": 4_500}


def split_by(ratio: float, seed: int = 1) -> UpdateSplit:
    return UpdateSplit(OLD_CUT, NEW_FROM, VALIDATE_FROM, CUT, ratio, seed)


def shoppers(*parts: tuple[str, ...], each: int = 2) -> Sequences:
    """Returns shoppers who view a product some times in each of their parts."""
    return sequences_of(
        [
            [
                Did(PARTS[part] + step, VIEW, FIRST + step)
                for part in sorted(own, key=PARTS.__getitem__)
                for step in range(each)
            ]
            for own in parts
        ]
    )


def learned_times(sequences: Sequences, split: UpdateSplit) -> set[int]:
    """Returns the times of the events that training is to foretell."""
    span = split.training(sequences)
    rows = [
        row for begin, end in zip(span.begins, span.ends, strict=True) for row in range(begin, end)
    ]
    return {int(sequences.event_times[row]) // 500 * 500 for row in rows}


def test_the_old_slice_is_not_even_what_shoppers_did_before() -> None:
    whole = shoppers(tuple(PARTS), ("old slice",), ("new", "old slice"))
    left = without_old_slice(whole, split_by(1))
    assert not ((left.event_times >= OLD_CUT) & (left.event_times < NEW_FROM)).any()
    assert left.shopper_ids == (whole.shopper_ids[0], whole.shopper_ids[2])
    assert left.offsets.tolist() == [0, 8, 10]
    assert len(left.tokens) == len(left.returns) == 10
    kept = (whole.event_times < OLD_CUT) | (whole.event_times >= NEW_FROM)
    np.testing.assert_array_equal(left.tokens, whole.tokens[kept])


def test_training_sees_new_events_of_all_and_old_ones_of_those_who_are_replayed() -> None:
    sequences = without_old_slice(shoppers(*[tuple(PARTS)] * 20), split_by(1))
    assert learned_times(sequences, split_by(0)) == {2_500}
    assert learned_times(sequences, split_by(0.5)) == {500, 2_500}
    span = split_by(0.5).validation(sequences)
    times = sequences.event_times[span.begins]
    assert (times >= VALIDATE_FROM).all()
    assert (times < CUT).all()


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_so_many_old_events_are_replayed_for_each_new_one(ratio: float) -> None:
    sequences = shoppers(*[("old", "new")] * 40, *[("old",)] * 40)
    split = split_by(ratio)
    assert split.replayed(sequences).sum() == ratio * 40
    windows = cut_windows(sequences, split.training(sequences), 16)
    assert len(windows) >= 40


def test_who_is_replayed_is_drawn_by_the_seed() -> None:
    sequences = shoppers(*[("old", "new")] * 40)
    first, again, other = (split_by(0.5, seed).replayed(sequences) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
