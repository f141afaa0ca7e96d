"""Confidence intervals by drawing shoppers again, and the same for differences of two models.

What one shopper does hangs together: the prefixes of one visit share their label. So whole shoppers
are drawn with replacement, all their samples at once (the cluster bootstrap; Field and Welsh 2007,
https://doi.org/10.1111/j.1467-9868.2007.00593.x). Two models are compared on the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEED = 7
RESAMPLES = 1_000
MIN_RESAMPLES = 200
MAX_CELLS = 20_000_000
"""Resamples times samples; more samples have fewer resamples, which tells as much about them."""
CHUNK_CELLS = 500_000
LEVEL = 0.95
REFLECTED = frozenset({"ece"})
"""Metrics that noise can only raise: a resample's is too high by as much as the sample's is."""

Measure = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]
"""Weights [R, N], how often each of N samples counts, to [R] of every metric; NaN if undefined."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """One metric of all samples, and of every resample."""

    value: float
    draws: NDArray[np.float64]  # [R]
    reflected: bool = False

    @property
    def ci(self) -> tuple[float, float] | None:
        """The 95 % interval, or None where hardly any resample has the metric."""
        known = self.draws[np.isfinite(self.draws)]
        if len(known) <= len(self.draws) / 2:
            return None
        tail = (1 - LEVEL) / 2
        low, high = (float(bound) for bound in np.quantile(known, (tail, 1 - tail)))
        if self.reflected:
            return max(0.0, 2 * self.value - high), max(0.0, 2 * self.value - low)
        return low, high

    def minus(self, other: Estimate) -> Estimate:
        """Returns the paired difference to another estimate from the same draws of shoppers."""
        return Estimate(self.value - other.value, self.draws - other.draws)


def bootstrap(
    measure: Measure, shoppers: NDArray[np.int64], *, seed: int = SEED
) -> dict[str, Estimate]:
    """Returns every metric that is defined on the [N] samples, whose shoppers are drawn again.

    The same shoppers and seed give the same draws, whatever is measured. A single shopper has no
    interval.
    """
    values = measure(np.ones((1, len(shoppers))))
    drawn = [measure(weights) for weights in shopper_weights(shoppers, seed=seed)]
    return {
        name: Estimate(
            float(value[0]),
            np.concatenate([each[name] for each in drawn]) if drawn else np.zeros(0),
            name in REFLECTED,
        )
        for name, value in values.items()
        if np.isfinite(value[0])
    }


def shopper_weights(shoppers: NDArray[np.int64], *, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yields weights [R, N] of some resamples at a time: how often each shopper was drawn."""
    names, numbers = np.unique(shoppers, return_inverse=True)
    if len(names) < 2:
        return
    rng = np.random.default_rng(seed)
    left, at_once = n_resamples(len(shoppers)), max(1, CHUNK_CELLS // len(shoppers))
    while left > 0:
        size = min(left, at_once)
        counts = [
            np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
            for _ in range(size)
        ]
        yield np.stack(counts)[:, numbers].astype(np.float64)
        left -= size


def n_resamples(n_samples: int) -> int:
    """Returns how many resamples are drawn of that many samples."""
    return int(np.clip(MAX_CELLS // max(n_samples, 1), MIN_RESAMPLES, RESAMPLES))


def describe() -> str:
    """Returns what a reader must know of the intervals."""
    return (
        f"95 % percentile intervals of {RESAMPLES:,} resamples of shoppers with all their samples, "
        f"seed {SEED}; models are compared on the same resamples; fewer resamples, at least "
        f"{MIN_RESAMPLES}, above {MAX_CELLS // RESAMPLES:,} samples; that of the calibration error "
        "is reflected, since noise can only raise it"
    )
