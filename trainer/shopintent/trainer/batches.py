"""Windows of shoppers' behavior, drawn at random and padded into batches of equal size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shopintent.trainer.sequences import Batch, Sequences, Window, collate

RETURNING_SHARE = 0.25
"""How often training asks at the moment a shopper comes back, where one does."""
POOL = 16
"""Batches that are drawn together and sorted by length among themselves, to pad little."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Some windows and what may be learned from them."""

    sequences: Sequences
    windows: list[Window]
    learn_after: int
    """Unix seconds; requests before are context only."""
    observed_until: int
    """Unix seconds; what happens from here on is not known."""
    session_gap_s: int
    batch_events: int
    """Events a batch, padding included: so every event weighs alike, whatever its shopper's length.
    """

    def shuffled(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields every window once, at random, some asked at the moment the shopper comes back."""
        order = [self.windows[n] for n in rng.permutation(len(self.windows))]
        for pool in self._cut(order, POOL * self.batch_events):
            batches = list(self._cut(sorted(pool, key=len), self.batch_events))
            for n in rng.permutation(len(batches)):
                longest = max(map(len, batches[n]))
                drawn = rng.random((len(batches[n]), longest + 1)) < RETURNING_SHARE
                yield collate(
                    self.sequences,
                    batches[n],
                    learn_after=self.learn_after,
                    observed_until=self.observed_until,
                    session_gap_s=self.session_gap_s,
                    returning=drawn,
                )

    def in_order(self) -> Iterator[Batch]:
        """Yields every window once, always asked right after the last event."""
        for windows in self._cut(sorted(self.windows, key=len), self.batch_events):
            yield collate(
                self.sequences,
                windows,
                learn_after=self.learn_after,
                observed_until=self.observed_until,
                session_gap_s=self.session_gap_s,
            )

    def _cut(self, windows: list[Window], n_events: int) -> Iterator[list[Window]]:
        """Yields neighbors whose padded size is at most `n_events`, and always one."""
        part: list[Window] = []
        longest = 0
        for window in windows:
            longest = max(longest, len(window))
            if part and longest * (len(part) + 1) > n_events:
                yield part
                part, longest = [], len(window)
            part.append(window)
        if part:
            yield part
