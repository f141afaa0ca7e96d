"""Counts that fade, in the way that lets each event be added once and never be touched again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

HALF_LIVES_OF_LANDMARK = 64
"""After so many the landmark moves on, long before weights outgrow a float."""
MOST_HALF_LIVES = 500.0
"""From the landmark, either way: keeps whatever time an event or a clock tells inside a float."""


class FadingCounts:
    """Counts by product id that halve every `half_life_s` seconds.

    What is kept is the count as of a landmark in the past, where later events weigh more, so
    fading changes neither a count nor the order of any two (forward decay: Cormode, Shkapenyuk,
    Srivastava and Xu, "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE
    2009). A weight depends on nothing but the event, so events may come in any order, and taking
    one back undoes it.
    """

    def __init__(self, half_life_s: float, *, now: float) -> None:
        if half_life_s <= 0:
            raise ValueError("half_life_s must be above 0")
        self.half_life_s = half_life_s
        self.landmark = self._landmark_of(now)
        self.values: dict[str, float] = {}
        """As of the landmark. Below 0 where more was taken back than is remembered."""

    def add(
        self,
        product_ids: Sequence[str],
        weights: NDArray[np.float64],
        event_times: NDArray[np.float64],
    ) -> None:
        """Counts events [N], each at its own time in unix seconds.

        A weight below 0 takes an event back.
        """
        half_lives = (event_times - self.landmark) / self.half_life_s
        bounded = np.clip(half_lives, -MOST_HALF_LIVES, MOST_HALF_LIVES)
        values = self.values
        for product_id, value in zip(
            product_ids, (weights * np.exp2(bounded)).tolist(), strict=True
        ):
            values[product_id] = values.get(product_id, 0.0) + value

    def fade(self, now: float) -> float:
        """Returns what `values` must be multiplied with to be the counts of now."""
        return math.exp2(min((self.landmark - now) / self.half_life_s, MOST_HALF_LIVES))

    def counts(self, now: float) -> NDArray[np.float64]:
        """Returns [N], the counts now of all products in `values`, in their order."""
        values = np.fromiter(self.values.values(), float, len(self.values))
        return np.maximum(values * self.fade(now), 0.0)

    def most(self, limit: int, now: float, *, above: float) -> Iterator[tuple[str, float]]:
        """Returns at most `limit` products with the highest counts now, and these; in any order."""
        counts = self.counts(now)
        rows = np.flatnonzero(counts > above)
        if len(rows) > limit:
            rows = np.argpartition(counts, -limit)[-limit:]
        product_ids = list(self.values)
        return zip((product_ids[row] for row in rows.tolist()), counts[rows].tolist(), strict=True)

    def keep(self, product_ids: Iterable[str]) -> None:
        """Forgets every other product."""
        values = self.values
        self.values = {key: values[key] for key in product_ids if key in values}

    def advance(self, now: float) -> None:
        """Moves the landmark on when it is far behind; call it now and then."""
        landmark = self._landmark_of(now)
        if landmark > self.landmark:
            fade = self.fade(landmark)
            self.values = {key: value * fade for key, value in self.values.items()}
            self.landmark = landmark

    def _landmark_of(self, now: float) -> float:
        """Returns the landmark of a time: the same one in every process."""
        between = HALF_LIVES_OF_LANDMARK * self.half_life_s
        return math.floor(now / between) * between
