"""The arithmetic of a load: from what the processes that offered it logged to rates and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BYTES_TOLERANCE = 0.01
"""By how much right answers may differ from one another in length."""


class LoadError(Exception):
    """Load could not be offered or measured; the message says why and what to do."""


@dataclass(frozen=True)
class Measured:
    """What came back while it was measured."""

    rps: float
    """Right answers a second."""
    p50_ms: float
    p99_ms: float
    n_answers: int
    n_failed: int
    """Of the answers, those with a bad HTTP status, and gRPC calls that failed."""
    offered_rps: float
    """Requests sent a second."""


@dataclass(frozen=True, eq=False)
class Requests:
    """Requests that were answered, in microseconds."""

    started: NDArray[np.int64]
    status: NDArray[np.int64]
    """Of HTTP; -1 where the stream failed."""
    took: NDArray[np.int64]

    @property
    def ended(self) -> NDArray[np.int64]:
        return self.started + self.took

    @property
    def lasted_s(self) -> float:
        """From the first request to the last answer."""
        return float(self.ended.max() - self.started.min()) / 1e6 if len(self.started) else 0.0


@dataclass(frozen=True, eq=False)
class Report:
    """What one process says of its part of a load."""

    requests: Requests
    n_started: int
    data_bytes: int
    """Of the bodies of all answers."""


def together_s(reports: Sequence[Report]) -> float:
    """Returns how long all processes were at work at once; below 0 when they never were."""
    answered = [report.requests for report in reports if len(report.requests.started)]
    first = max(int(requests.started.min()) for requests in answered)
    last = min(int(requests.ended.max()) for requests in answered)
    return (last - first) / 1e6


def read_log(log: Path) -> Requests:
    """Reads the --log-file of h2load."""
    text = log.read_text(encoding="ascii") if log.exists() else ""
    rows = np.array(text.split(), dtype=np.int64).reshape(-1, 3)
    return Requests(rows[:, 0], rows[:, 1], rows[:, 2])


def measure(
    reports: Sequence[Report],
    *,
    warm_up_s: float,
    duration_s: float,
    answer_bytes: int = 0,
    by_number: bool = False,
) -> Measured:
    """Returns what came back while every process was past its warm-up and none had ended.

    With `answer_bytes`, the length of a right answer, answers without a body are found: gRPC calls
    that failed. A load `by_number` ended with its last request, whenever that was. Raises LoadError
    when there is nothing to measure.
    """
    answered = [report.requests for report in reports if len(report.requests.started)]
    if not answered:
        raise LoadError("nothing was answered")
    lasts_s = warm_up_s + duration_s
    starts = [int(requests.started.min()) for requests in answered]
    begin, end = max(starts) + warm_up_s * 1e6, min(starts) + lasts_s * 1e6
    if by_number:
        lasts_s = min(lasts_s, *(requests.lasted_s for requests in answered))
        begin = max(starts) + min(warm_up_s, lasts_s / 2) * 1e6
        last = min(int(requests.ended.max()) for requests in answered)
        end = min(begin + duration_s * 1e6, last)
    status = np.concatenate([requests.status for requests in answered])
    took = np.concatenate([requests.took for requests in answered])
    ended = np.concatenate([requests.ended for requests in answered])
    inside = (ended >= begin) & (ended < end)
    n_answers = int(inside.sum())
    if end <= begin or n_answers == 0:
        raise LoadError("nothing was answered in time: measure longer, or on a calmer machine")
    n_bad = int(((status < 200) | (status >= 300))[inside].sum())
    n_bytes = sum(report.data_bytes for report in reports)
    n_failed = n_bad + round(_share_empty(n_bytes, len(status), answer_bytes) * n_answers)
    p50, p99 = np.percentile(took[inside], [50, 99]) / 1e3
    return Measured(
        rps=(n_answers - n_failed) / (end - begin) * 1e6,
        p50_ms=float(p50),
        p99_ms=float(p99),
        n_answers=n_answers,
        n_failed=n_failed,
        offered_rps=sum(report.n_started for report in reports)
        / max(lasts_s, *(requests.lasted_s for requests in answered)),
    )


def _share_empty(n_bytes: int, n_answers: int, answer_bytes: int) -> float:
    """Returns the share of answers without a body; what is within the tolerance is none."""
    if not answer_bytes:
        return 0.0
    share = 1.0 - n_bytes / (n_answers * answer_bytes)
    return share if share > BYTES_TOLERANCE else 0.0
