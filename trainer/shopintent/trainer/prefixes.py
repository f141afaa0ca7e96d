"""Prefixes of visits: what is known after some events, and what came then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.behavior import Behavior
from shopintent.trainer.sequences import Sequences

ARRIVAL = 0
"""The prefix of a visit without any of its events: the shopper has just come."""
JUDGED_LENGTHS = (1, 2, 3, 5, 10, 20)
LEARNED_LENGTHS = (ARRIVAL, *JUDGED_LENGTHS)


@dataclass(frozen=True, eq=False)
class Prefixes:
    """N prefixes, each asked right after its last event with all that the shopper did before."""

    shoppers: NDArray[np.int64]  # [N]
    ends: NDArray[np.int64]  # [N], the first row not seen
    request_times: NDArray[np.int64]  # [N], unix seconds
    lengths: NDArray[np.int64]  # [N], events seen of this visit
    purchase_labels: NDArray[np.bool_]  # [N, H]
    purchase_known: NDArray[np.bool_]  # [N, H], whether the log goes on long enough to tell
    next_actions: NDArray[np.int64]  # [N], -1 where the log ends before the visit surely did

    def __len__(self) -> int:
        return len(self.ends)

    def behaviors(self, sequences: Sequences) -> list[Behavior]:
        """Returns all that each shopper did, up to the end of the prefix."""
        spans = zip(self.shoppers.tolist(), self.ends.tolist(), strict=True)
        return [sequences.behavior(shopper, end) for shopper, end in spans]

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Prefixes:
        """Returns some of the prefixes."""
        return Prefixes(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def visit_prefixes(
    sequences: Sequences,
    *,
    lengths: tuple[int, ...],
    visits_from: int,
    visits_until: int,
    observed_until: int,
    horizons_s: tuple[int, ...],
    session_gap_s: int,
    cut_before_purchase: bool,
) -> Prefixes:
    """Returns the prefixes of every visit that starts in [visits_from, visits_until).

    To judge, a visit is cut before its first purchase: what follows an order is no prediction. A
    server is asked then too, so the head learns from all.
    """
    times, sessions = sequences.event_times, sequences.session_ids
    starts = np.flatnonzero(np.append(True, sessions[1:] != sessions[:-1]))
    sizes = np.diff(np.append(starts, len(times)))
    uncut = sizes_before_purchase(sequences, starts) if cut_before_purchase else sizes
    in_time = (times[starts] >= visits_from) & (times[starts] < visits_until)
    parts = []
    for length in lengths:
        visits = np.flatnonzero(in_time & (sizes >= max(length, 1)) & (uncut >= length))
        parts.append((starts[visits], np.full(len(visits), length)))
    first, seen = (np.concatenate(column) for column in zip(*parts, strict=True))
    ends = first + seen
    arriving = seen == ARRIVAL
    last = np.where(arriving, first, ends - 1)  # labels of an arrival stand at the first event
    buys_first = arriving & sequences.purchases[first]
    buys = np.where(buys_first, times[first], sequences.next_purchase_times[last])
    asked = times[last]
    actions = np.where(arriving, sequences.actions[first], sequences.next_actions[last])
    kept = asked < visits_until
    until = asked[:, None] + np.array(horizons_s)
    prefixes = Prefixes(
        shoppers=np.searchsorted(sequences.offsets, first, side="right") - 1,
        ends=ends,
        request_times=asked,
        lengths=seen,
        purchase_labels=buys[:, None] <= until,
        purchase_known=until <= observed_until,
        next_actions=np.where(asked + session_gap_s <= observed_until, actions, -1),
    )
    return prefixes.take(kept)


def sizes_before_purchase(sequences: Sequences, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns how many events each visit has before its first purchase."""
    n_events = len(sequences.purchases)
    purchases = np.append(np.flatnonzero(sequences.purchases), n_events)
    first = purchases[np.searchsorted(purchases, starts)]
    sizes: NDArray[np.int64] = np.minimum(first, np.append(starts[1:], n_events)) - starts
    return sizes
