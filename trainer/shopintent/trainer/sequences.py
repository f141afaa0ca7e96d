"""Every shopper's behavior with its labels, in flat arrays that training and evaluation cut
windows from.

A *request* is a moment at which the model is asked: after `n_seen` events, at `request_time`. Its
labels never look past the time until which the log is observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shopintent.behavior import Behavior

NEVER = np.iinfo(np.int64).max // 2
"""The time of a purchase that the log does not hold."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """Shoppers' events one after the other; shopper i owns rows offsets[i] to offsets[i + 1]."""

    shopper_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    """[shoppers + 1]"""
    tokens: NDArray[np.int32]
    """[N, 8]"""
    event_times: NDArray[np.int64]
    """[N], ascending within a shopper."""
    session_ids: NDArray[np.int64]
    """[N]"""
    catalog_rows: NDArray[np.int64]
    """[N], the row of each event's product in the catalog, or -1."""
    actions: NDArray[np.int64]
    """[N], the action that each event is."""
    purchases: NDArray[np.bool_]
    """[N], whether each event is a purchase."""
    next_actions: NDArray[np.int64]
    """[N], the action that follows each event."""
    next_purchase_times: NDArray[np.int64]
    """[N], when the shopper buys next after each event, or NEVER."""
    returns: NDArray[np.bool_]
    """[N], whether the next event starts another visit of the same shopper."""

    def __len__(self) -> int:
        return len(self.shopper_ids)

    def behavior(self, shopper: int, until: int) -> Behavior:
        """Returns the shopper's events before row `until`."""
        rows = slice(int(self.offsets[shopper]), until)
        return Behavior(self.tokens[rows], self.event_times[rows])


@dataclass(frozen=True)
class Window:
    """A stretch of one shopper's events: rows start to end, learned from where `learn_from`
    events are seen.
    """

    shopper: int
    start: int
    end: int
    learn_from: int

    def __len__(self) -> int:
        return self.end - self.start


def cut_windows(sequences: Sequences, *, after: int, before: int, max_events: int) -> list[Window]:
    """Returns windows of at most `max_events` that hold the events in [after, before).

    Long behaviors are cut into windows that overlap by half. Behind the first, only requests that
    see at least half a window are learned from, since a server always sees as much as there is.
    """
    windows = []
    for shopper in range(len(sequences)):
        first, behind = int(sequences.offsets[shopper]), int(sequences.offsets[shopper + 1])
        times = sequences.event_times[first:behind]
        begin, end = (first + int(n) for n in np.searchsorted(times, (after, before)))
        if begin == end:
            continue
        own = [Window(shopper, first, min(first + max_events, end), 0)]
        while own[-1].end < end:
            start = own[-1].start + max_events // 2
            learn_from = own[-1].end - start + 1
            own.append(Window(shopper, start, min(start + max_events, end), learn_from))
        windows += [window for window in own if window.end > begin]
    return windows


class Batch(NamedTuple):
    """Windows padded to one length T, asked before the first event and after each (K = T + 1)."""

    events: NDArray[np.int32]  # [B, T, 8]
    event_times: NDArray[np.int64]  # [B, T]
    n_seen: NDArray[np.int64]  # [B, K]; padding sees all events
    request_times: NDArray[np.int64]  # [B, K]
    action_labels: NDArray[np.int64]  # [B, K], -1 where there is nothing to learn
    product_labels: NDArray[np.int32]  # [B, K], token ids, 0 where there is nothing to learn


def collate(
    sequences: Sequences,
    windows: list[Window],
    *,
    learn_after: int,
    observed_until: int,
    session_gap_s: int,
    returning: NDArray[np.bool_] | None = None,
) -> Batch:
    """Returns the batch of the windows, labels included.

    Where `returning` [B, K] is set and the shopper comes back for another visit, the request is
    asked at that moment: the server is asked then too, and the next action is the visit's first.
    """
    length = max(map(len, windows))
    size, requests = len(windows), length + 1
    batch = Batch(
        events=np.zeros((size, length, sequences.tokens.shape[1]), np.int32),
        event_times=np.zeros((size, length), np.int64),
        n_seen=np.tile(np.arange(requests), (size, 1)),
        request_times=np.zeros((size, requests), np.int64),
        action_labels=np.full((size, requests), -1, np.int64),
        product_labels=np.zeros((size, requests), np.int32),
    )
    for row, window in enumerate(windows):
        seen = len(window)
        rows = slice(window.start, window.end)
        times = sequences.event_times[rows]
        batch.events[row, :seen] = sequences.tokens[rows]
        batch.event_times[row, :seen] = times
        # Request n sees n events, so its labels stand at event n - 1; request 0 comes before all.
        asked = np.concatenate([times[:1], times])
        actions = np.concatenate(
            [sequences.actions[window.start : window.start + 1], sequences.next_actions[rows]]
        )
        if returning is not None:
            back = np.flatnonzero(sequences.returns[rows] & returning[row, 1 : seen + 1])
            back = back[window.start + back + 1 < sequences.offsets[window.shopper + 1]]
            asked[back + 1] = sequences.event_times[window.start + back + 1]
            actions[back + 1] = sequences.actions[window.start + back + 1]
        learned = (np.arange(seen + 1) >= window.learn_from) & (asked >= learn_after)
        known = learned & (asked + session_gap_s <= observed_until)
        batch.request_times[row, : seen + 1] = asked
        batch.action_labels[row, : seen + 1] = np.where(known, actions, -1)
        # The event behind a full window is the next window's, where its request sees less.
        goes_on = (
            window.end < sequences.offsets[window.shopper + 1]
            and sequences.event_times[window.end] < observed_until
        )
        told = seen + 1 if goes_on else seen
        next_products = sequences.tokens[window.start : window.start + told, 1]
        batch.product_labels[row, :told] = np.where(learned[:told], next_products, 0)
    return batch
