"""Windows of shoppers' behavior, drawn at random and packed into rows without padding between them.

Padding every shopper to one length wastes most of the work, and batches of shoppers of equal
length learn worse, since their tokens weigh unequally. So several shoppers share a row, each blind
to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import Span

RETURNING_SHARE = 0.25
"""How often training asks at the moment a shopper comes back, where one does."""
ROW_SLOTS = 128
"""Slots a row at least: one window of any length fits."""
OPEN_ROWS = 8
"""Rows that are filled at the same time."""
NOBODY = -1

Number = TypeVar("Number", np.int32, np.int64)


class Batch(NamedTuple):
    """R rows of S slots; slot n of a window is the moment after n events, slot 0 knows nothing."""

    events: NDArray[np.int32]  # [R, S, F], the last event known
    event_times: NDArray[np.int64]  # [R, S], when it was
    n_seen: NDArray[np.int64]  # [R, S]
    owners: NDArray[np.int64]  # [R, S], the window of each slot, NOBODY for padding
    request_times: NDArray[np.int64]  # [R, S]
    action_labels: NDArray[np.int64]  # [R, S], -1 where there is nothing to learn
    product_labels: NDArray[np.int32]  # [R, S], token ids, 0 where there is nothing to learn


@dataclass(frozen=True, eq=False)
class Windows:
    """W stretches of single shoppers' events."""

    shoppers: NDArray[np.int64]  # [W]
    starts: NDArray[np.int64]  # [W], first row
    ends: NDArray[np.int64]  # [W], row behind the last
    learn_from: NDArray[np.int64]  # [W], events seen at the first moment that is learned from

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_slots(self) -> NDArray[np.int64]:
        """[W], moments of each window."""
        return self.ends - self.starts + 1

    def take(self, chosen: NDArray[np.int64]) -> Windows:
        """Returns some of the windows."""
        return Windows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def cut_windows(sequences: Sequences, span: Span, max_events: int) -> Windows:
    """Returns windows of at most `max_events` that hold the events of a span.

    Long behaviors are cut into windows that overlap by half. Behind the first, only moments that
    see at least half a window are learned from, since a server always sees as much as there is.
    """
    half = max(1, max_events // 2)
    first = sequences.offsets[:-1]
    n_events = span.ends - first
    n_windows = 1 + np.maximum(0, -(-(n_events - max_events) // half))
    shoppers = np.repeat(np.arange(len(sequences)), n_windows)
    nth = np.arange(len(shoppers)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    starts = first[shoppers] + nth * half
    windows = Windows(
        shoppers,
        starts,
        np.minimum(starts + max_events, span.ends[shoppers]),
        np.where(nth > 0, max_events - half + 1, 0),
    )
    wanted = (span.begins < span.ends)[shoppers] & (windows.ends >= span.begins[shoppers])
    return windows.take(np.flatnonzero(wanted))


@dataclass(frozen=True, eq=False)
class Batches:
    """Some windows and what may be learned from them."""

    sequences: Sequences
    windows: Windows
    span: Span
    session_gap_s: int
    batch_events: int
    """Slots a batch; padding at the ends of rows included."""

    def shuffled(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields every window once, at random, some asked at the moment the shopper comes back."""
        order = rng.permutation(len(self.windows))
        for batch in self._packed(order):
            n_slots = int(self.windows.n_slots[batch.windows].sum())
            yield self._collate(batch, rng.random(n_slots) < RETURNING_SHARE)

    def in_order(self) -> Iterator[Batch]:
        """Yields every window once, always asked right after the last event."""
        for batch in self._packed(np.arange(len(self.windows))):
            yield self._collate(batch, None)

    def _packed(self, order: NDArray[np.int64]) -> Iterator[Packing]:
        sizes = self.windows.n_slots[order]
        n_slots = max(ROW_SLOTS, int(sizes.max(initial=1)))
        packed = pack(sizes, n_slots)
        n_rows = max(1, self.batch_events // n_slots)
        by_row = np.argsort(packed.rows, kind="stable")
        rows = packed.rows[by_row]
        for start in range(0, int(rows[-1]) + 1 if len(rows) else 0, n_rows):
            own = by_row[slice(*np.searchsorted(rows, (start, start + n_rows)))]
            yield Packing(order[own], packed.rows[own] - start, packed.slots[own], n_slots)

    def _collate(self, packing: Packing, returning: NDArray[np.bool_] | None) -> Batch:
        return collate(
            self.sequences, self.windows, self.span, packing, self.session_gap_s, returning
        )


@dataclass(frozen=True, eq=False)
class Packing:
    """Where each of some windows lies."""

    windows: NDArray[np.int64]
    rows: NDArray[np.int64]
    slots: NDArray[np.int64]
    """The first slot of each."""
    n_slots: int
    """Of a row."""


def pack(sizes: NDArray[np.int64], n_slots: int) -> Packing:
    """Lays windows of these sizes, in order, into the first open row that has room."""
    rows, slots = np.zeros_like(sizes), np.zeros_like(sizes)
    used: dict[int, int] = {}  # slots of each open row
    n_rows = 0
    for window, size in enumerate(sizes.tolist()):
        row = next((each for each in used if used[each] + size <= n_slots), n_rows)
        rows[window], slots[window] = row, used.get(row, 0)
        used[row] = used.get(row, 0) + size
        n_rows = max(n_rows, row + 1)
        if len(used) > OPEN_ROWS:
            del used[max(used, key=used.__getitem__)]
    return Packing(np.arange(len(sizes)), rows, slots, n_slots)


def collate(
    sequences: Sequences,
    windows: Windows,
    span: Span,
    packing: Packing,
    session_gap_s: int,
    returning: NDArray[np.bool_] | None = None,
) -> Batch:
    """Returns the batch of the packed windows, labels included.

    Where `returning` [slots of all windows] is set and the shopper comes back for another visit,
    the moment is that return: the server is asked then too, and the next action is the visit's
    first.
    """
    chosen = windows.take(packing.windows)
    sizes = chosen.n_slots
    owner = np.repeat(np.arange(len(chosen)), sizes)  # [M], M moments of all windows
    n_seen = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    following = chosen.starts[owner] + n_seen  # the row of the next event
    # The moment before all events is asked, and labeled, at the first of them.
    last = np.where(n_seen > 0, following - 1, following)
    asked = sequences.event_times[last]
    actions = np.where(n_seen > 0, sequences.next_actions[last], sequences.actions[last])
    shopper = chosen.shoppers[owner]
    if returning is not None:
        back = np.flatnonzero(returning & (n_seen > 0) & sequences.returns[last])
        back = back[following[back] < sequences.offsets[shopper[back] + 1]]
        asked[back] = sequences.event_times[following[back]]
        actions[back] = sequences.actions[following[back]]
    learned = n_seen >= chosen.learn_from[owner]
    # An action belongs to the event it follows, a product to the event it is part of.
    known = learned & (last >= span.begins[shopper])
    known &= asked + session_gap_s <= span.observed_until[shopper]
    foretold = learned & (following >= span.begins[shopper]) & (following < span.ends[shopper])
    # What is popular answers a shopper of whom nothing is known: nothing is learned from slot 0.
    foretold &= n_seen > 0
    next_products = sequences.tokens[np.minimum(following, len(sequences.tokens) - 1), 1]

    n_rows = int(packing.rows.max(initial=0)) + 1
    shape = (n_rows, packing.n_slots)
    at = packing.rows[owner] * packing.n_slots + packing.slots[owner] + n_seen
    events = np.where((n_seen > 0)[:, None], sequences.tokens[last], 0)

    def spread(values: NDArray[Number], empty: int) -> NDArray[Number]:
        out = np.full((n_rows * packing.n_slots, *values.shape[1:]), empty, values.dtype)
        out[at] = values
        return out.reshape(*shape, *values.shape[1:])

    return Batch(
        events=spread(events, 0),
        event_times=spread(sequences.event_times[last], 0),
        n_seen=spread(n_seen, 0),
        owners=spread(owner, NOBODY),
        request_times=spread(asked, 0),
        action_labels=spread(np.where(known, actions, -1), -1),
        product_labels=spread(np.where(foretold, next_products, 0).astype(np.int32), 0),
    )
