"""Counts what the server does, for well under a microsecond a count.

The numbers lie in one block of memory of 8-byte cells whose layout every process knows. Workers
are given blocks that their supervisor reads too, so the numbers of all can be summed at any time
and those of a worker that dies stay. Only the event loop's thread may count.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

METHODS = (
    "shopintent.v1.RecommendationService/PredictIntent",
    "shopintent.v1.RecommendationService/Recommend",
    "shopintent.v1.RecommendationService/StreamIntents",
    "shopintent.v1.EventService/TrackEvents",
    "shopintent.v1.CatalogService/GetProduct",
    "shopintent.v1.CatalogService/BatchUpdateProducts",
    "shopintent.v1.CatalogService/DeleteProduct",
)
OTHER = "other"
"""Stands for whatever is not listed, so that no caller can make labels."""
CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
REFUSED = "RESOURCE_EXHAUSTED"
DEGRADED = (
    *("model-unavailable", "index-unavailable", "text-encoder-unavailable"),
    *("behavior-unavailable", "intent-unavailable", OTHER),
)
STAGES = ("validate", "session", "tokens", "model", "index", "answer")

SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075),
    *(0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""OpenTelemetry's bounds of a call's duration, and finer ones below 25 ms, where answers lie."""
FINE_SECONDS = (
    *(0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

CELL_BYTES = 8
NOTE_BYTES = 4096
"""Behind the cells: which releases are served, as JSON."""


@dataclass(frozen=True)
class Family:
    """Series of one name: a counter, or a gauge, or a histogram when it has bounds."""

    name: str
    help: str
    labels: Mapping[str, tuple[str, ...]]
    """Every value that each label may take."""
    bounds: tuple[float, ...] = ()
    gauge: bool = False

    @property
    def n_cells(self) -> int:
        """Cells of one series: a histogram has one a bucket, one above all bounds and the sum."""
        return len(self.bounds) + 2 if self.bounds else 1

    def series(self) -> Iterator[tuple[str, ...]]:
        """Yields the label values of each series."""
        yield from product(*self.labels.values())


_METHOD = (*METHODS, OTHER)

CALLS = Family(
    "rpc_server_call_duration_seconds",
    "How long calls took, by method and status code.",
    {"rpc_method": _METHOD, "rpc_response_status_code": CODES},
    SECONDS,
)
IN_FLIGHT = Family(
    "shopintent_calls_in_flight",
    "Calls being answered now.",
    {"rpc_method": _METHOD},
    gauge=True,
)
DEGRADED_ANSWERS = Family(
    "shopintent_degraded_answers_total",
    "Answers that are less than they could be, by method and what was missing.",
    {"rpc_method": _METHOD, "reason": DEGRADED},
)
STAGE = Family(
    "shopintent_stage_duration_seconds",
    "How long each stage of an answer took.",
    {"stage": STAGES},
    FINE_SECONDS,
)
STREAM_REQUEST = Family(
    "shopintent_stream_request_duration_seconds",
    "How long each request of a stream took, from when it was read until it was answered.",
    {},
    SECONDS,
)
BATCH_ROWS = Family(
    "shopintent_model_batch_rows", "Calls answered by one call of the intent model.", {}, ROWS
)
QUEUE_WAIT = Family(
    "shopintent_model_queue_wait_seconds",
    "How long calls waited for their batch to be sent.",
    {},
    FINE_SECONDS,
)
LOG_RECORDS = Family("shopintent_event_log_records_total", "Records written to the event log.", {})
LOG_FAILURES = Family(
    "shopintent_event_log_failures_total",
    "Times that the event log could not be written, or its files not looked after.",
    {},
)
LOG_WAIT = Family(
    "shopintent_event_log_wait_seconds",
    "How long the oldest record has waited that is not in the event log yet.",
    {},
    gauge=True,
)
STARTS = Family("shopintent_worker_starts_total", "Times that a server process was started.", {})
PID = Family("shopintent_worker_pid", "The process.", {}, gauge=True)
FAMILIES = (
    *(CALLS, IN_FLIGHT, STREAM_REQUEST, DEGRADED_ANSWERS, STAGE, BATCH_ROWS, QUEUE_WAIT),
    *(LOG_RECORDS, LOG_FAILURES, LOG_WAIT, STARTS, PID),
)


def _layout() -> tuple[dict[tuple[str, tuple[str, ...]], int], int]:
    """Returns the first cell of every series, by family and label values, and their number."""
    first: dict[tuple[str, tuple[str, ...]], int] = {}
    n_cells = 0
    for family in FAMILIES:
        for values in family.series():
            first[family.name, values] = n_cells
            n_cells += family.n_cells
    return first, n_cells


_FIRST, _N_CELLS = _layout()
BLOCK_BYTES = _N_CELLS * CELL_BYTES + NOTE_BYTES


class Block:
    """The numbers of one process; pages of memory that others may share through a file.

    `file` is the descriptor of a file of BLOCK_BYTES zeros or of what another process counted;
    without one nobody else sees the numbers.
    """

    def __init__(self, file: int = -1) -> None:
        self._memory = mmap.mmap(file, BLOCK_BYTES)
        cells = memoryview(self._memory)[: _N_CELLS * CELL_BYTES]
        self.counts = cells.cast("q")
        self.sums = cells.cast("d")

    def read(self, family: Family, values: tuple[str, ...]) -> tuple[list[int], float]:
        """Returns the counts of a series, and the sum of a histogram's observations."""
        first = _FIRST[family.name, values]
        if not family.bounds:
            return [self.counts[first]], 0.0
        last = first + family.n_cells - 1
        return self.counts[first:last].tolist(), self.sums[last]

    def write_note(self, note: Mapping[str, str]) -> None:
        """Keeps a short mapping; one that is too long is left out."""
        text = json.dumps(note).encode()
        start = _N_CELLS * CELL_BYTES + CELL_BYTES
        if start + len(text) > BLOCK_BYTES:
            text = b"{}"
        self._memory[start - CELL_BYTES : start] = bytes(CELL_BYTES)
        self._memory[start : start + len(text)] = text
        self._memory[start - CELL_BYTES : start] = len(text).to_bytes(CELL_BYTES, "little")

    def read_note(self) -> dict[str, str]:
        """Returns the mapping; empty when there is none or it is being written."""
        start = _N_CELLS * CELL_BYTES + CELL_BYTES
        length = int.from_bytes(self._memory[start - CELL_BYTES : start], "little")
        try:
            note: dict[str, str] = json.loads(self._memory[start : start + length] or b"{}")
        except ValueError:
            return {}
        return note


class Histogram:
    """One series of a histogram."""

    __slots__ = ("_bounds", "_counts", "_first", "_sum", "_sums")

    def __init__(self, block: Block, family: Family, values: tuple[str, ...] = ()) -> None:
        self._bounds = family.bounds
        self._counts, self._sums = block.counts, block.sums
        self._first = _FIRST[family.name, values]
        self._sum = self._first + family.n_cells - 1

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._counts[self._first + bisect_left(self._bounds, value)] += 1
        self._sums[self._sum] += value


class Laps:
    """Measures the stages of one answer, one after the other."""

    __slots__ = ("_since", "_stages")

    def __init__(self, stages: Mapping[str, Histogram]) -> None:
        self._stages = stages
        self._since = time.perf_counter()

    def ended(self, stage: str) -> None:
        """Counts what has passed since the stage before ended, or since the start."""
        now = time.perf_counter()
        self._stages[stage].observe(now - self._since)
        self._since = now

    def skip(self) -> None:
        """Leaves out what has passed since."""
        self._since = time.perf_counter()


class Metrics:
    """What one server process counts. Durations are seconds."""

    def __init__(self, block: Block | None = None) -> None:
        self.block = block = block or Block()
        self._counts = block.counts
        self._calls = {
            (method, code): Histogram(block, CALLS, (method, code))
            for method, code in CALLS.series()
        }
        self._in_flight = _cells(IN_FLIGHT)
        self._degraded = _cells(DEGRADED_ANSWERS)
        self.stages = {stage: Histogram(block, STAGE, (stage,)) for stage in STAGES}
        """How long each stage of an answer took, by its name."""
        self.stream_request = Histogram(block, STREAM_REQUEST)
        """How long each request of a stream took."""
        self.batch_rows = Histogram(block, BATCH_ROWS)
        """How many calls each call of the intent model answered."""
        self.queue_wait = Histogram(block, QUEUE_WAIT)
        """How long each call waited for its batch."""
        # A process that takes over the numbers of a dead one has nothing in flight yet.
        for cell in self._in_flight.values():
            self._counts[cell] = 0
        self.log_waits(0.0)
        self._counts[_FIRST[STARTS.name, ()]] += 1
        self._counts[_FIRST[PID.name, ()]] = os.getpid()
        block.write_note({})

    def call_started(self, method: str) -> None:
        """Counts a call in; `method` such as "shopintent.v1.EventService/TrackEvents"."""
        self._counts[self._in_flight.get((method,), self._in_flight[(OTHER,)])] += 1

    def call_ended(self, method: str, code: str, duration_s: float) -> None:
        """Counts it out, with the name of its status code."""
        self._counts[self._in_flight.get((method,), self._in_flight[(OTHER,)])] -= 1
        series = self._calls.get((method, code)) or self._calls[OTHER, "UNKNOWN"]
        series.observe(duration_s)

    def degraded(self, method: str, reason: str) -> None:
        """Counts an answer that went out without something; reasons are those of `Degraded`."""
        cell = self._degraded.get((method, reason), self._degraded[OTHER, OTHER])
        self._counts[cell] += 1

    def degraded_answer(self, method: str, reasons: Iterable[str]) -> None:
        """Counts everything that an answer went out without."""
        for reason in reasons:
            self.degraded(method, reason)

    def log_written(self, records: int) -> None:
        """Counts records that are in the event log now."""
        self._counts[_FIRST[LOG_RECORDS.name, ()]] += records

    def log_failed(self) -> None:
        """Counts a failure to write the event log, or to look after its files."""
        self._counts[_FIRST[LOG_FAILURES.name, ()]] += 1

    def log_waits(self, seconds: float) -> None:
        """Says how long the oldest record waits that is not in the event log."""
        self._counts[_FIRST[LOG_WAIT.name, ()]] = math.ceil(seconds)

    def laps(self) -> Laps:
        """Begins to measure the stages of an answer."""
        return Laps(self.stages)

    def releases(self, role_by_id: Mapping[str, str]) -> None:
        """Says which releases this process answers from now on, and as what."""
        self.block.write_note(role_by_id)


def _cells(family: Family) -> dict[tuple[str, ...], int]:
    return {values: _FIRST[family.name, values] for values in family.series()}
