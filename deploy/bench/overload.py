"""What becomes of calls when far more come than can be answered.

h2load offers them, each with a deadline. It cannot tell an answer from a refusal, so a few calls
more a second are made beside it, and looked at one by one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2

from deploy.bench.load import Load, Target, offer, unframed

STATUS_DETAILS = "grpc-status-details-bin"
PROBES_PER_S = 100.0
SETTLE_S = 1.0
"""The load runs so long before the first probe, and after the last."""


@dataclass(frozen=True)
class Probe:
    """One call that was looked at."""

    code: str
    """The name of its gRPC status."""
    took_ms: float
    says_when_to_retry: bool
    late_ms: float = 0.0
    """How much later than planned it was made: the prober was waiting for a processor."""


@dataclass(frozen=True)
class Overload:
    """What became of the calls."""

    target: str
    products: int
    times_peak: float
    offered_rps: float
    answered_rps: float
    deadline_ms: float
    n_probes: int
    accepted_share: float
    accepted_p50_ms: float | None
    accepted_p99_ms: float | None
    """None where no probe was accepted."""
    refused_share: float
    """With RESOURCE_EXHAUSTED."""
    refused_p50_ms: float | None
    refused_p99_ms: float | None
    refused_with_retry_info: float | None
    """The share of the refusals that say how long to wait."""
    probes_late_p99_ms: float | None
    """By which times may be too long: the prober shares the processors, too."""
    other: dict[str, float]
    """Shares of all other statuses by name."""


def overload(
    target: Target,
    *,
    peak_rps: float,
    times_peak: float,
    products: int,
    deadline_s: float,
    duration_s: float,
) -> Overload:
    """Offers so many times the peak of a target and returns what became of it."""
    deadline_ms = round(deadline_s * 1000)
    impatient = replace(target, headers=(*target.headers, f"grpc-timeout: {deadline_ms}m"))
    load = Load(rate=peak_rps * times_peak, duration_s=duration_s + SETTLE_S, warm_up_s=SETTLE_S)
    messages = [unframed(body) for body in target.bodies]
    address, _, method = target.url.removeprefix("http://").partition("/")
    with ThreadPoolExecutor(max_workers=1) as beside:
        offered = beside.submit(offer, impatient, load)
        time.sleep(SETTLE_S)
        probes = asyncio.run(probe(address, method, messages, deadline_s, duration_s))
        measured = offered.result()
    return judge(
        probes,
        target=target.name,
        products=products,
        times_peak=times_peak,
        offered_rps=measured.offered_rps,
        answered_rps=measured.rps,
        deadline_ms=deadline_ms,
    )


async def probe(
    address: str, method: str, messages: Sequence[bytes], deadline_s: float, duration_s: float
) -> list[Probe]:
    """Makes calls at a steady rate, whatever becomes of them, and returns each."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(f"/{method}")
        start = time.monotonic()
        asked = []
        for number in range(max(1, round(duration_s * PROBES_PER_S))):
            planned = start + number / PROBES_PER_S
            await asyncio.sleep(max(0.0, planned - time.monotonic()))
            message = messages[number % len(messages)]
            asked.append(asyncio.create_task(_ask(call, message, deadline_s, planned)))
        return list(await asyncio.gather(*asked))


async def _ask(call: Any, message: bytes, deadline_s: float, planned: float) -> Probe:
    start = time.monotonic()
    retry = False
    try:
        await call(message, timeout=deadline_s)
        code = "OK"
    except grpc.aio.AioRpcError as error:
        code = error.code().name
        retry = _says_when_to_retry(error)
    return Probe(code, (time.monotonic() - start) * 1e3, retry, (start - planned) * 1e3)


def _says_when_to_retry(error: grpc.aio.AioRpcError) -> bool:
    metadata: dict[str, Any] = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata.get(STATUS_DETAILS, b""))
    return any(each.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for each in status.details)


def judge(
    probes: Sequence[Probe],
    *,
    target: str,
    products: int,
    times_peak: float,
    offered_rps: float,
    answered_rps: float,
    deadline_ms: float,
) -> Overload:
    """Returns shares and times by what became of the probes."""
    accepted = [each.took_ms for each in probes if each.code == "OK"]
    refused = [each for each in probes if each.code == "RESOURCE_EXHAUSTED"]
    refused_ms = [each.took_ms for each in refused]
    others = sorted({each.code for each in probes} - {"OK", "RESOURCE_EXHAUSTED"})
    n = len(probes)
    return Overload(
        target=target,
        products=products,
        times_peak=times_peak,
        offered_rps=round(offered_rps, 1),
        answered_rps=round(answered_rps, 1),
        deadline_ms=deadline_ms,
        n_probes=n,
        accepted_share=round(len(accepted) / n, 3),
        accepted_p50_ms=percentile(accepted, 50),
        accepted_p99_ms=percentile(accepted, 99),
        refused_share=round(len(refused) / n, 3),
        refused_p50_ms=percentile(refused_ms, 50),
        refused_p99_ms=percentile(refused_ms, 99),
        refused_with_retry_info=(
            round(sum(each.says_when_to_retry for each in refused) / len(refused), 3)
            if refused
            else None
        ),
        probes_late_p99_ms=percentile([each.late_ms for each in probes], 99),
        other={code: round(sum(each.code == code for each in probes) / n, 3) for code in others},
    )


def percentile(values: Sequence[float], q: float) -> float | None:
    """Returns the percentile of what there is, rounded; None where there is nothing."""
    return round(float(np.percentile(values, q)), 2) if values else None
