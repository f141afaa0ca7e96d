"""What is learned from, what tells when to stop, and what is held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopintent.trainer.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Span:
    """Of every shopper, the events to be foretold; those before them are known."""

    begins: NDArray[np.int64]  # [S], the first row
    ends: NDArray[np.int64]  # [S], the row behind the last
    observed_until: NDArray[np.int64]  # [S], unix seconds; nothing is known of what came after


class Split(Protocol):
    """A way to cut a log."""

    @property
    def name(self) -> str:
        """As metric rows call it: "time" or "leave-one-out"."""

    def learned(self) -> pl.Expr:
        """Returns which rows of the event table training may know, in the order of the table."""

    def training(self, sequences: Sequences) -> Span:
        """Returns what gradient descent sees."""

    def validation(self, sequences: Sequences) -> Span:
        """Returns what tells when to stop."""

    def held_out(self, sequences: Sequences) -> Span:
        """Returns what is judged."""


@dataclass(frozen=True)
class TimeSplit:
    """Everybody's events from one moment on are held out."""

    validate_from: int
    """Unix seconds."""
    cut_time: int
    """Unix seconds."""
    name: str = "time"

    def learned(self) -> pl.Expr:
        """Returns the events before the cut."""
        return known_before(self.cut_time)

    def training(self, sequences: Sequences) -> Span:
        """Returns the events before `validate_from`."""
        return between(sequences, 0, self.validate_from)

    def validation(self, sequences: Sequences) -> Span:
        """Returns the events from there to the cut."""
        return between(sequences, self.validate_from, self.cut_time)

    def held_out(self, sequences: Sequences) -> Span:
        """Returns the events from the cut on."""
        return between(sequences, self.cut_time, int(sequences.event_times.max(initial=0)) + 1)


@dataclass(frozen=True)
class LeaveOneOut:
    """Everybody's last event is held out, and the one before tells when to stop.

    Comparable with the literature, and flattering: training sees what others did later.
    """

    name: str = "leave-one-out"

    def learned(self) -> pl.Expr:
        """Returns all but the last two events of every shopper."""
        return pl.len().over("shopper_id") - pl.int_range(pl.len()).over("shopper_id") > 2

    def training(self, sequences: Sequences) -> Span:
        """Returns all but the last two events."""
        return last_rows(sequences, sequences.offsets[:-1], sequences.offsets[1:] - 2)

    def validation(self, sequences: Sequences) -> Span:
        """Returns the last but one."""
        return last_rows(sequences, sequences.offsets[1:] - 2, sequences.offsets[1:] - 1)

    def held_out(self, sequences: Sequences) -> Span:
        """Returns the last."""
        return last_rows(sequences, sequences.offsets[1:] - 1, sequences.offsets[1:])


def known_before(cut_time: int) -> pl.Expr:
    """Returns which rows of the event table were known at a time, unix seconds."""
    return pl.col("event_time") < cut_time


def between(sequences: Sequences, after: int, before: int) -> Span:
    """Returns the events in [after, before), unix seconds."""
    begins, ends = (first_rows(sequences, time) for time in (after, before))
    return Span(begins, ends, np.full(len(sequences), before))


def first_rows(sequences: Sequences, time: int) -> NDArray[np.int64]:
    """Returns [S]: each shopper's first row at or after a time, else the row behind the last."""
    earlier = np.append(0, np.cumsum(sequences.event_times < time))
    rows: NDArray[np.int64] = sequences.offsets[:-1] + np.diff(earlier[sequences.offsets])
    return rows


def last_rows(sequences: Sequences, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Span:
    """Returns rows [begins, ends) of every shopper; who has none of them is left out."""
    first = sequences.offsets[:-1]
    begins, ends = np.maximum(begins, first), np.maximum(ends, first)
    # Nothing after the span is known, not even that nothing came.
    observed_until = sequences.event_times[np.maximum(ends - 1, first)]
    return Span(begins, ends, observed_until)
