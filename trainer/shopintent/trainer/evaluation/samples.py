"""The prefixes of visits that a run is judged on, and what came after them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.sequences import Sequences

PREFIX_LENGTHS = (1, 2, 3, 5, 10, 20)


@dataclass(frozen=True, eq=False)
class Samples:
    """N prefixes, asked right after their last event with all that the shopper did before."""

    shoppers: NDArray[np.int64]  # [N]
    rows: NDArray[np.int64]  # [N], the last event seen
    lengths: NDArray[np.int64]  # [N], k: events seen of this visit
    purchase_labels: NDArray[np.bool_]  # [N, H]
    purchase_known: NDArray[np.bool_]  # [N, H], whether the log goes on long enough to tell
    next_actions: NDArray[np.int64]  # [N]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Samples:
        """Returns some of the samples."""
        return Samples(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def visit_prefixes(
    sequences: Sequences,
    *,
    visits_from: int,
    visits_until: int,
    observed_until: int,
    horizons_s: tuple[int, ...],
    purchase_action: int,
) -> Samples:
    """Returns the prefixes of every visit that starts in [visits_from, visits_until).

    A visit is cut before its first purchase: what follows an order is not a prediction.
    """
    times, sessions = sequences.event_times, sequences.session_ids
    n_events = len(times)
    starts = np.flatnonzero(np.append(True, sessions[1:] != sessions[:-1]))
    visit = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, n_events)))
    position = np.arange(n_events) - starts[visit] + 1
    bought = np.cumsum(sequences.actions == purchase_action)
    before_visit = (bought - (sequences.actions == purchase_action))[starts]
    chosen = np.isin(position, PREFIX_LENGTHS) & (bought == before_visit[visit])
    chosen &= (times[starts][visit] >= visits_from) & (times[starts][visit] < visits_until)
    chosen &= times < visits_until
    rows = np.flatnonzero(chosen)
    until = times[rows, None] + np.array(horizons_s)
    return Samples(
        shoppers=np.searchsorted(sequences.offsets, rows, side="right") - 1,
        rows=rows,
        lengths=position[rows],
        purchase_labels=sequences.next_purchase_times[rows, None] <= until,
        purchase_known=until <= observed_until,
        next_actions=sequences.next_actions[rows],
    )
