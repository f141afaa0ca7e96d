"""The page that Prometheus reads: the numbers of every worker, summed."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from shopintent.server.config import ConfigError
from shopintent.server.metrics import CALLS, FAMILIES, PID, REFUSED, Block, Family


class MetricsPage(Collector):
    """Collects the numbers of the workers' blocks; worker i counts in block i."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks

    def collect(self) -> Iterable[Metric]:
        """Yields every family, its series summed over the workers."""
        for family in FAMILIES:
            if family is not PID:
                yield self._family(family)
        yield self._refused()
        yield self._releases()
        yield self._memory()

    def _family(self, family: Family) -> Metric:
        labels = list(family.labels)
        if family.bounds:
            histogram = HistogramMetricFamily(family.name, family.help, labels=labels)
            for values, counts, total in self._series(family):
                bounds = [*map(str, family.bounds), "+Inf"]
                buckets = list(zip(bounds, accumulate(counts), strict=True))
                histogram.add_metric(values, buckets, sum_value=total)
            return histogram
        kind = GaugeMetricFamily if family.gauge else CounterMetricFamily
        plain = kind(family.name, family.help, labels=labels)
        for values, counts, _ in self._series(family):
            plain.add_metric(values, counts[0])
        return plain

    def _series(self, family: Family) -> Iterator[tuple[tuple[str, ...], list[int], float]]:
        """Yields label values, counts and sum; of many possible series those that were counted."""
        for values in family.series():
            read = [block.read(family, values) for block in self._blocks]
            counts = [sum(cells) for cells in zip(*(counts for counts, _ in read), strict=True)]
            if any(counts) or len(family.labels) < 2:
                yield values, counts, sum(total for _, total in read)

    def _refused(self) -> Metric:
        refused = CounterMetricFamily(
            "shopintent_refused_calls_total",
            "Calls refused because there were too many.",
            labels=["rpc_method"],
        )
        for (method, code), counts, _ in self._series(CALLS):
            if code == REFUSED:
                refused.add_metric([method], sum(counts))
        return refused

    def _releases(self) -> Metric:
        releases = GaugeMetricFamily(
            "shopintent_release_workers",
            "Server processes that answer from a release, and in which role.",
            labels=["release_id", "role"],
        )
        served = [pair for block in self._blocks for pair in block.read_note().items()]
        for release_id, role in sorted(set(served)):
            releases.add_metric([release_id, role], served.count((release_id, role)))
        return releases

    def _memory(self) -> Metric:
        memory = GaugeMetricFamily(
            "shopintent_worker_resident_memory_bytes",
            "Memory of each server process.",
            labels=["worker"],
        )
        for number, block in enumerate(self._blocks):
            (pid,), _ = block.read(PID, ())
            memory.add_metric([str(number)], _resident_bytes(pid))
        return memory


def serve_metrics(address: str, blocks: Sequence[Block]) -> str:
    """Serves the page from a thread for as long as the process runs; returns the address.

    Port 0 takes a free one. Raises ConfigError when the address cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    registry.register(MetricsPage(blocks))
    try:
        server, _ = start_http_server(int(port), host.strip("[]"), registry)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"SHOPINTENT_METRICS_LISTEN: cannot listen on {address}; is the port taken? ({error})"
        ) from error
    return f"{host}:{server.server_port}"


def _resident_bytes(pid: int) -> int:
    """Returns the memory a process holds; 0 when it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        # Without /proc only this process is known, by the most it ever held.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * (pid == os.getpid())
    return int(pages) * os.sysconf("SC_PAGESIZE")
