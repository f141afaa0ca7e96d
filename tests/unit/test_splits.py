"""Splits: what training may know, what tells when to stop, and what is judged."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import LeaveOneOut, Split, TimeSplit, between, first_rows
from support.learning import random_shoppers, sequences_of

SPLITS = [LeaveOneOut(), TimeSplit(1_030_000, 1_060_000)]


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return sequences_of(random_shoppers(50, seed=4, longest=12))


def table(sequences: Sequences) -> pl.DataFrame:
    shoppers = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
    return pl.DataFrame({"shopper_id": shoppers, "event_time": sequences.event_times})


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.name)
def test_training_validation_and_held_out_follow_each_other(
    split: Split, sequences: Sequences
) -> None:
    training, validation = split.training(sequences), split.validation(sequences)
    held_out = split.held_out(sequences)
    assert (training.begins == sequences.offsets[:-1]).all()
    assert (training.ends == validation.begins).all()
    assert (validation.ends == held_out.begins).all()
    assert (held_out.ends == sequences.offsets[1:]).all()


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.name)
def test_nothing_is_known_of_what_comes_after_a_span(split: Split, sequences: Sequences) -> None:
    for span in (split.training(sequences), split.validation(sequences)):
        for shopper, (end, until) in enumerate(zip(span.ends, span.observed_until, strict=True)):
            later = sequences.event_times[end : sequences.offsets[shopper + 1]]
            assert (later >= until).all()


def test_by_time_training_may_know_what_came_before_the_cut(sequences: Sequences) -> None:
    split = TimeSplit(1_030_000, 1_060_000)
    known = table(sequences).select(split.learned()).to_series().to_numpy()
    assert (known == (sequences.event_times < 1_060_000)).all()


def test_leaving_one_out_training_may_not_know_the_last_two_events(sequences: Sequences) -> None:
    known = table(sequences).select(LeaveOneOut().learned()).to_series().to_numpy()
    rows = np.arange(len(known))
    last = np.repeat(sequences.offsets[1:], np.diff(sequences.offsets))
    assert (known == (rows < last - 2)).all()


def test_first_rows_are_those_of_a_search_in_every_shopper(sequences: Sequences) -> None:
    for time in (0, 1_030_000, 1_050_000, 2_000_000):
        expected = [
            first + np.searchsorted(sequences.event_times[first:behind], time)
            for first, behind in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
        ]
        assert first_rows(sequences, time).tolist() == expected
    span = between(sequences, 1_030_000, 1_050_000)
    assert (span.begins <= span.ends).all()
