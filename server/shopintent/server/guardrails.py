"""Watches a canary beside the serving release, and says when it must be rolled back.

Both are judged by the same seconds: what a busy machine or a broken network does to one, it does to
the other, and a canary is blamed only for what it does worse.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

WINDOW_S = 10
"""What is compared: the last so many seconds."""
LATENCY_EDGES_S = [0.0005 * 1.25**step for step in range(42)]
"""From half a millisecond to 5 s, each a quarter above the one before."""


@dataclass(frozen=True)
class Limits:
    """How much worse than the serving release a canary may be."""

    min_requests: int = 50
    """Of each release in the window; fewer say nothing."""
    errors: float = 0.02
    """Share of requests, in addition."""
    degraded: float = 0.05
    """Share of answers, in addition."""
    latency_ratio: float = 2.0
    """Of the 95th percentiles."""
    latency_s: float = 0.02
    """And at least so much slower: twice a millisecond is no reason."""
    intent_drift: float = 0.15
    """Total variation distance, in [0, 1], between the mean distributions of next actions."""


@dataclass(eq=False)
class _Second:
    """What a release did in one second."""

    at: int
    requests: int = 0
    errors: int = 0
    degraded: int = 0
    intents: int = 0
    intent: dict[str, float] = field(default_factory=dict)
    """The sum of the distributions of next actions."""
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_EDGES_S) + 1))


@dataclass(frozen=True)
class Summary:
    """What a release did in the window."""

    requests: int = 0
    errors: float = 0.0
    """Share of requests."""
    degraded: float = 0.0
    """Share of requests."""
    latency_s: float = 0.0
    """95th percentile."""
    intent: Mapping[str, float] = field(default_factory=dict)
    """Mean distribution of next actions; empty where no intent was predicted."""


class AnswerStats:
    """Counts what one release answers, second by second, for as long as the window.

    `clock` tells the seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: list[_Second] = []

    def count(self, latency_s: float, *, failed: bool = False, degraded: bool = False) -> None:
        """Counts a request."""
        second = self._second()
        second.requests += 1
        second.errors += failed
        second.degraded += degraded
        second.latencies[bisect_left(LATENCY_EDGES_S, latency_s)] += 1

    def count_intent(self, next_actions: Sequence[tuple[str, float]]) -> None:
        """Counts a predicted intent: next actions and their probabilities."""
        second = self._second()
        second.intents += 1
        for action, probability in next_actions:
            second.intent[action] = second.intent.get(action, 0.0) + probability

    def summary(self) -> Summary:
        """Returns what happened in the last WINDOW_S seconds."""
        since = int(self._clock()) - WINDOW_S
        seconds = [each for each in self._seconds if each.at > since]
        requests = sum(each.requests for each in seconds)
        intents = sum(each.intents for each in seconds)
        actions = {action for each in seconds for action in each.intent}
        return Summary(
            requests=requests,
            errors=sum(each.errors for each in seconds) / max(requests, 1),
            degraded=sum(each.degraded for each in seconds) / max(requests, 1),
            latency_s=_percentile([each.latencies for each in seconds], 0.95),
            intent={
                action: sum(each.intent.get(action, 0.0) for each in seconds) / intents
                for action in actions
            },
        )

    def _second(self) -> _Second:
        at = int(self._clock())
        if not self._seconds or self._seconds[-1].at != at:
            self._seconds.append(_Second(at))
            del self._seconds[: -WINDOW_S - 1]
        return self._seconds[-1]


def objection(canary: Summary, serving: Summary, limits: Limits) -> str | None:
    """Returns why a canary must be rolled back, in words for the audit log; None if nothing is."""
    if canary.requests < limits.min_requests:
        return None
    shares = (
        ("requests failed", limits.errors, canary.errors, serving.errors),
        ("answers were degraded", limits.degraded, canary.degraded, serving.degraded),
    )
    for what, limit, ours, theirs in shares:
        if ours > theirs + limit:
            return f"{ours:.1%} of its {what}, {theirs:.1%} of the serving release's"
    if serving.requests < limits.min_requests:
        return None
    slow_s = max(limits.latency_ratio * serving.latency_s, serving.latency_s + limits.latency_s)
    if canary.latency_s > slow_s:
        ours, theirs = 1000 * canary.latency_s, 1000 * serving.latency_s
        return f"its 95th percentile is {ours:.0f} ms, the serving release's {theirs:.0f} ms"
    drift = _distance(canary.intent, serving.intent)
    if drift > limits.intent_drift:
        return f"its predicted intents are {drift:.2f} apart from the serving release's"
    return None


def _distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Returns the total variation distance of two distributions; 0 where one is not known."""
    if not one or not other:
        return 0.0
    actions = one.keys() | other.keys()
    return sum(abs(one.get(each, 0.0) - other.get(each, 0.0)) for each in actions) / 2


def _percentile(histograms: Sequence[Sequence[int]], share: float) -> float:
    """Returns the upper edge of the bucket that holds the percentile; 0 for nothing counted."""
    counts = list(accumulate(map(sum, zip(*histograms, strict=True))))
    if not counts or not counts[-1]:
        return 0.0
    bucket = bisect_left(counts, share * counts[-1])
    return LATENCY_EDGES_S[min(bucket, len(LATENCY_EDGES_S) - 1)]
