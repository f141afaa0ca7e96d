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
MAX_VISITS = 50_000
"""Of more visits so many are drawn, always the same: they tell as much, in minutes."""


@dataclass(frozen=True, eq=False)
class Prefixes:
    """N prefixes, each asked right after its last event with all that the shopper did before."""

    shoppers: NDArray[np.int64]  # [N]
    ends: NDArray[np.int64]  # [N], the first row not seen
    request_times: NDArray[np.int64]  # [N], unix seconds
    lengths: NDArray[np.int64]  # [N], events seen of this visit
    purchase_labels: NDArray[np.bool_]  # [N, 1 + H], later in this visit, then by horizon
    purchase_known: NDArray[np.bool_]  # [N, 1 + H], whether the log goes on long enough to tell
    next_actions: NDArray[np.int64]  # [N], -1 where the log ends before the visit surely did
    undecided: NDArray[np.bool_]  # [N], whether the visit has begun and holds no purchase yet

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
    log_ends: bool = False,
) -> Prefixes:
    """Returns the prefixes of every visit that starts in [visits_from, visits_until), or of
    MAX_VISITS of them.

    Whether a visit buys is known when it surely is over; where the log ends at `observed_until`,
    as `log_ends` says, the last visits are taken to end there too.

    To judge, a visit is cut before its first purchase: what follows an order is no prediction. A
    server is asked then too, so the head learns from all.
    """
    times, sessions = sequences.event_times, sequences.session_ids
    starts = np.flatnonzero(np.append(True, sessions[1:] != sessions[:-1]))
    behind = np.append(starts[1:], len(times))  # the row behind each visit
    sizes = behind - starts
    uncut = next_purchases(sequences, starts) - starts if cut_before_purchase else sizes
    in_time = few((times[starts] >= visits_from) & (times[starts] < visits_until))
    parts = []
    for length in lengths:
        chosen = np.flatnonzero(in_time & (sizes >= max(length, 1)) & (uncut >= length))
        parts.append((chosen, np.full(len(chosen), length)))
    visits, seen = (np.concatenate(column) for column in zip(*parts, strict=True))
    first = starts[visits]
    ends = first + seen
    arriving = seen == ARRIVAL
    last = np.where(arriving, first, ends - 1)  # labels of an arrival stand at the first event
    buys_first = arriving & sequences.purchases[first]
    buys = np.where(buys_first, times[first], sequences.next_purchase_times[last])
    asked = times[last]
    actions = np.where(arriving, sequences.actions[first], sequences.next_actions[last])
    kept = asked < visits_until
    within = asked[:, None] + np.array(horizons_s)
    in_visit = next_purchases(sequences, ends) < behind[visits]
    visit_over = times[behind[visits] - 1] + (0 if log_ends else session_gap_s)
    prefixes = Prefixes(
        shoppers=np.searchsorted(sequences.offsets, first, side="right") - 1,
        ends=ends,
        request_times=asked,
        lengths=seen,
        purchase_labels=np.column_stack([in_visit, buys[:, None] <= within]),
        purchase_known=np.column_stack([visit_over, within]) <= observed_until,
        next_actions=np.where(asked + session_gap_s <= observed_until, actions, -1),
        undecided=~arriving & (next_purchases(sequences, first) >= ends),
    )
    return prefixes.take(kept)


def few(visits: NDArray[np.bool_], limit: int = MAX_VISITS) -> NDArray[np.bool_]:
    """Returns the visits, or a random `limit` of them."""
    if visits.sum() <= limit:
        return visits
    drawn = np.zeros_like(visits)
    drawn[np.random.default_rng(0).choice(np.flatnonzero(visits), limit, replace=False)] = True
    return drawn


def next_purchases(sequences: Sequences, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the row of the first purchase in each row or behind it, whoever's it is."""
    n_events = len(sequences.purchases)
    purchases = np.append(np.flatnonzero(sequences.purchases), n_events)
    found: NDArray[np.int64] = purchases[np.searchsorted(purchases, rows)]
    return found
