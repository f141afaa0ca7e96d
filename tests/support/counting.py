"""What the tests of popular products ask of counters."""

from __future__ import annotations

from shopintent.server.popularity.fading import FadingCounts


def count_of(counts: FadingCounts, product_id: str, now: float) -> float:
    """Returns the count of one product now; 0 for one that is not counted."""
    found: dict[str, float] = dict(zip(counts.values, counts.counts(now).tolist(), strict=True))
    return found.get(product_id, 0.0)
