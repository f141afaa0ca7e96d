"""What everybody buys and looks at: the same list for all, of all time or of the last week."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.evaluation.next_product import NextProductTask

WEEK_S = 604_800
DAY_S = 86_400


@dataclass(frozen=True, eq=False)
class Popular:
    """Products by their learned events."""

    task: NextProductTask
    name: str = "popular"

    def scores(self, requests: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns [n, P]: how many events each product has."""
        return np.tile(self.task.popularity.astype(np.float32), (len(requests), 1))


@dataclass(frozen=True, eq=False)
class PopularLately:
    """Products by their learned events in the week before the day of the request.

    Where learning ended before that, by those of the last week that was learned from. Products that
    are equal then stand in the order of all their events.
    """

    task: NextProductTask
    name: str = "popular-7d"
    span_s: int = WEEK_S

    @cached_property
    def _known(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Times, ascending, and products of the learned events."""
        known = np.flatnonzero(self.task.learned & (self.task.products >= 0))
        known = known[np.argsort(self.task.event_times[known], kind="stable")]
        return self.task.event_times[known], self.task.products[known]

    def scores(self, requests: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns [n, P]: events of the week, and less than one more for those before it."""
        times, products = self._known
        until = times[-1] + 1 if len(times) else 0
        asked = np.minimum(self.task.request_times[requests] // DAY_S * DAY_S, until)
        days, day_of = np.unique(asked, return_inverse=True)
        always = self.task.popularity / (self.task.popularity.max(initial=0) + 1)
        table = np.empty((len(days), self.task.n_products), np.float32)
        for row, day in enumerate(days):
            begin, end = np.searchsorted(times, (day - self.span_s, day))
            table[row] = always + np.bincount(products[begin:end], minlength=len(always))
        scores: NDArray[np.float32] = table[day_of]
        return scores
