"""Trending: what is asked for more now than lately, and not by chance.

A product's share of all that was asked for lately tells how often it would be asked for now if
nothing had changed; shares, because a whole shop is busier in the evening. What it is asked for
beyond that is measured in standard deviations of a Poisson count, and a product that is hardly
asked for is taken to be expected `LEAST_EXPECTED` times:

    expected = max(lately / sum(lately) * sum(now), LEAST_EXPECTED)
    significance = (now - expected) / sqrt(expected)

This is the significance of SigniTrend (Schubert, Weiler and Kriegel, KDD 2014), whose bias term
keeps the rare from looking significant, with the Poisson deviation in place of a moving one: a
fading count of a steady stream varies by less (its variance is half its mean), which leaves room
for visitors who look at a product several times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOW_HALF_LIFE_S = 3 * 60 * 60.0
"""Of the count that tells what is asked for now."""
LATELY_HALF_LIFE_S = 24 * 60 * 60.0
"""Of the count that tells what was asked for lately: a rise that lasts is normal in days."""

LEAST_EXPECTED = 20.0
"""Events of now that any product is expected to have; none with fewer than twice that is trending.
Of 5,000 products whose rates never changed none was in 480 looks, a quarter of an hour apart, at a
shop of 300, of 3,000 and of 30,000 events an hour, by day and night, whose visitors came back to a
product as those of REES46 do."""
LEAST_RISE = 2.0
"""How many times as much as expected is trending: of what is asked for ten thousand times a few
percent are significant too. With LEAST_EXPECTED it is 4.5 deviations or more, of thousands of
products that are looked at again and again."""


def significance(now: NDArray[np.float64], lately: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns [N], how far each product is asked for beyond what is expected; 0 unless trending.

    Both [N] are fading counts of the same events of all products, at the same moment.
    """
    total = lately.sum()
    share = lately / total if total > 0 else np.zeros_like(lately)
    expected = np.maximum(share * now.sum(), LEAST_EXPECTED)
    deviations = (now - expected) / np.sqrt(expected)
    return np.where(now >= LEAST_RISE * expected, deviations, 0.0)
