"""What an update learns from: old events anew, and new ones. What judges both is left out.

    old: learned once      old slice: held out     new: learned       validation    newest slice
    ----------------- C0 ------------------- U0 --------------- V1 ------------ C1 ------------

Up to C0 the release learned; to U0 its log went. The old slice was held out from it and stays so,
even as what shoppers did before: else nothing could tell whether the past is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.prefixes import LEARNED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.run import RunInfo
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import Span, between, first_rows
from shopintent.trainer.train import some_of
from shopintent.trainer.update.config import UpdateConfig, UpdateError

MIN_EVENTS = 200
"""Of each part; with fewer, nothing could be learned or told."""


@dataclass(frozen=True)
class UpdateSplit:
    """The times of an update, unix seconds; a Split as training takes it."""

    old_cut: int
    """C0"""
    new_from: int
    """U0"""
    validate_from: int
    """V1"""
    cut_time: int
    """C1"""
    replay_ratio: float
    seed: int
    name: str = "update"

    def learned(self) -> pl.Expr:
        """Returns the old and new events before what is judged."""
        time = pl.col("event_time")
        return (time < self.old_cut) | ((time >= self.new_from) & (time < self.cut_time))

    def training(self, sequences: Sequences) -> Span:
        """Returns the new events; of the shoppers who are replayed, the old ones too."""
        begins = first_rows(sequences, self.new_from)
        begins = np.where(self.replayed(sequences), sequences.offsets[:-1], begins)
        ends = first_rows(sequences, self.validate_from)
        return Span(begins, ends, np.full(len(sequences), self.validate_from))

    def validation(self, sequences: Sequences) -> Span:
        """Returns what tells when to stop."""
        return between(sequences, self.validate_from, self.cut_time)

    def held_out(self, sequences: Sequences) -> Span:
        """Returns the newest events."""
        return between(sequences, self.cut_time, int(sequences.event_times.max(initial=0)) + 1)

    def replayed(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Returns [S]: shoppers drawn at random until the ratio of old events to new is met."""
        old = first_rows(sequences, self.old_cut) - sequences.offsets[:-1]
        new = first_rows(sequences, self.validate_from) - first_rows(sequences, self.new_from)
        order = np.random.default_rng(self.seed).permutation(len(sequences))
        before = np.cumsum(old[order]) - old[order]
        chosen = np.zeros(len(sequences), bool)
        chosen[order[before < self.replay_ratio * new.sum()]] = True
        return chosen & (old > 0)

    def prefixes(self, sequences: Sequences, info: RunInfo) -> Prefixes:
        """Returns what heads are fitted to: new prefixes, and old ones by the ratio.

        Nothing is known of what came after C0 when the old ones are labeled.
        """
        new = prefixes_of(sequences, info, self.new_from, self.cut_time)
        old = prefixes_of(sequences, info, 0, self.old_cut)
        replayed = some_of(old, round(self.replay_ratio * len(new)), self.seed)
        both = (
            np.concatenate([getattr(each, name) for each in (replayed, new)])
            for name in Prefixes.__dataclass_fields__
        )
        return some_of(Prefixes(*both), info.config.max_prefixes, self.seed)


def prefixes_of(sequences: Sequences, info: RunInfo, start: int, end: int) -> Prefixes:
    """Returns the prefixes of the visits that start in [start, end), as known at `end`."""
    return visit_prefixes(
        sequences,
        lengths=LEARNED_LENGTHS,
        visits_from=start,
        visits_until=end,
        observed_until=end,
        horizons_s=info.horizons_s,
        session_gap_s=info.model.session_gap_s,
        cut_before_purchase=False,
    )


def split_update(dataset: Dataset, info: RunInfo, config: UpdateConfig) -> UpdateSplit:
    """Returns the times of an update of a run by a dataset that goes back behind its cut.

    Raises UpdateError where a part is too small.
    """
    events = dataset.events().select("event_time").collect()["event_time"]
    new_from = info.observed_until + 1
    new = events.filter(events >= new_from)
    judged_s = 2 * info.model.session_gap_s
    cut = newest_share(new, config.holdout_share)
    cut = min(cut, dataset.info.observed_until - judged_s)
    validate_from = newest_share(new.filter(new < cut), config.validation_share)
    split = UpdateSplit(
        info.cut_time, new_from, validate_from, cut, config.replay_ratio, config.seed
    )
    n_old = int(((events >= split.old_cut) & (events < new_from)).sum())
    if n_old < MIN_EVENTS:
        raise UpdateError(
            f"only {n_old} events are of the time that judges what is forgotten, which the release "
            "never learned from: give the dataset it was trained on, or one that goes back that "
            "far, with --replay"
        )
    n_new = int((new < validate_from).sum())
    if n_new < MIN_EVENTS:
        raise UpdateError(
            f"only {n_new} new events can be learned from (behind the log of the release, and not "
            f"held out); {MIN_EVENTS} are needed: wait for more"
        )
    return split


def newest_share(times: pl.Series, share: float) -> int:
    """Returns the time from which on the newest share of the events happened."""
    return int(times.quantile(1 - share, "higher") or 0)


def without_old_slice(sequences: Sequences, split: UpdateSplit) -> Sequences:
    """Returns the events without those that judge whether the past is forgotten."""
    times = sequences.event_times
    kept = (times < split.old_cut) | (times >= split.new_from)
    offsets = np.append(0, np.cumsum(kept))[sequences.offsets]
    some = np.diff(offsets) > 0
    flat = {
        name: getattr(sequences, name)[kept]
        for name in Sequences.__dataclass_fields__
        if name not in ("shopper_ids", "offsets")
    }
    names = zip(sequences.shopper_ids, some.tolist(), strict=True)
    return replace(
        sequences,
        shopper_ids=tuple(name for name, stays in names if stays),
        offsets=np.append(offsets[:-1][some], offsets[-1]),
        **flat,
    )
