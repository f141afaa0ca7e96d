"""Offers load to a server, over gRPC or HTTP/1.1, and measures what comes back.

    target = grpc_target("echo", "127.0.0.1:50051", "echo.Echo/Say", messages, answer=answer)
    measured = offer(target, Load(in_flight=64))

h2load sends it. Where a target has several bodies they take turns, so that no cache answers for
the server; see `h2load`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from deploy.bench import h2load
from deploy.bench.measured import LoadError, Measured, Report, measure, together_s

__all__ = [
    "Load",
    "LoadError",
    "Measured",
    "Target",
    "grpc_target",
    "json_target",
    "offer",
    "unframed",
]

FEW = 64
TURNS = 8
"""So many requests, or rounds of what is in flight, tell how fast a target is."""
LONG_ENOUGH = 0.7
MIN_FACTOR, MAX_FACTOR = 1.5, 50.0
MAX_TRIES = 6
MESSAGE_PREFIX_BYTES = 5
"""Before every gRPC message: whether it is compressed, and its length."""
GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")


@dataclass(frozen=True)
class Target:
    """Where requests go, and which."""

    name: str
    url: str
    bodies: Sequence[bytes]
    """What is posted, taking turns; all of one length, for h2load states the length once."""
    headers: tuple[str, ...] = ()
    http1: bool = False
    answer_bytes: int = 0
    """Of the body of a right answer, within 1 %. 0 where they differ; then gRPC errors count as
    answers, for they come as HTTP 200."""
    never_cut_short: bool = False
    """Whether a load ends with the answers to its last calls. Otherwise it cancels them, which
    Triton 2.51 may crash of (triton-inference-server/server#8034)."""


@dataclass(frozen=True)
class Load:
    """How much is offered, and how long."""

    in_flight: int = 0
    """Calls that wait for an answer at any time: a closed loop."""
    rate: float = 0.0
    """Calls a second, whatever the answers do: an open loop. Give this or `in_flight`."""
    duration_s: float = 3.0
    """Measured, after the warm-up."""
    warm_up_s: float = 0.5

    def __post_init__(self) -> None:
        if (self.in_flight > 0) == (self.rate > 0):
            raise ValueError("give a load either calls in flight or a rate, above 0")


def grpc_target(
    name: str,
    address: str,
    method: str,
    messages: Sequence[bytes],
    *,
    answer: bytes = b"",
    never_cut_short: bool = False,
) -> Target:
    """Returns the target of a gRPC method, such as "package.Service/Method".

    `messages` are serialized requests of one length, and `answer` a right answer to any of them.
    """
    return Target(
        name=name,
        url=f"http://{address}/{method}",
        bodies=[grpc_frame(message) for message in messages],
        headers=GRPC_HEADERS,
        answer_bytes=len(grpc_frame(answer)) if answer else 0,
        never_cut_short=never_cut_short,
    )


def json_target(name: str, url: str, bodies: Sequence[bytes], *, answer: bytes = b"") -> Target:
    """Returns a target that takes JSON over HTTP/1.1; shorter bodies get spaces at their end."""
    longest = max(map(len, bodies))
    return Target(
        name=name,
        url=url,
        bodies=[body.ljust(longest) for body in bodies],
        headers=("content-type: application/json",),
        http1=True,
        answer_bytes=len(answer),
    )


def grpc_frame(message: bytes) -> bytes:
    """Returns the message as gRPC sends it: uncompressed, its length before it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def unframed(body: bytes) -> bytes:
    """Returns the message of a body that `grpc_target` made."""
    return body[MESSAGE_PREFIX_BYTES:]


def offer(target: Target, load: Load) -> Measured:
    """Offers the load and returns what came back. Raises LoadError when it can not."""
    if len({len(body) for body in target.bodies}) != 1:
        raise LoadError(f"the bodies of {target.name} differ in length: pad them to one")
    shares = (
        h2load.open_loop(load.rate, http1=target.http1)
        if load.rate
        else h2load.closed_loop(load.in_flight, http1=target.http1)
    )
    runs_s = load.warm_up_s + load.duration_s
    try:
        if target.never_cut_short:
            reports = _run_by_number(target, shares, load, runs_s)
        else:
            reports = _run(target, shares, runs_s=runs_s, n_requests=0)
        return measure(
            reports,
            warm_up_s=load.warm_up_s,
            duration_s=load.duration_s,
            answer_bytes=target.answer_bytes,
            by_number=target.never_cut_short,
        )
    except LoadError as error:
        raise LoadError(f"{target.name} at {target.url}: {error}") from error


def _run_by_number(
    target: Target, shares: Sequence[h2load.Share], load: Load, runs_s: float
) -> list[Report]:
    """Runs h2load for so many requests that they take about so long: with few first, then more."""
    n_requests = max(FEW, TURNS * load.in_flight, round(load.rate * runs_s)) // len(shares) or 1
    for _ in range(MAX_TRIES):
        reports = _run(target, shares, runs_s=runs_s, n_requests=n_requests)
        lasted_s = min(report.requests.lasted_s for report in reports)
        if not lasted_s or together_s(reports) >= LONG_ENOUGH * runs_s or load.rate:
            break
        # Processes do not start at once: they may have lasted long enough, but not together.
        factor = max(MIN_FACTOR, runs_s / lasted_s)
        n_requests = math.ceil(n_requests * min(MAX_FACTOR, factor))
    return reports


def _run(
    target: Target, shares: Sequence[h2load.Share], *, runs_s: float, n_requests: int
) -> list[Report]:
    """Runs h2load for its time, or for so many requests of each process where that is above 0."""
    with tempfile.TemporaryDirectory(prefix="h2load-") as folder, ExitStack() as running:
        bodies = [Path(folder) / f"body-{number}" for number in range(len(shares))]
        running.enter_context(h2load.taking_turns(bodies, target.bodies))
        processes = [
            running.enter_context(
                h2load.running(
                    share,
                    target.url,
                    body=body,
                    headers=target.headers,
                    http1=target.http1,
                    runs_s=runs_s,
                    n_requests=n_requests,
                )
            )
            for share, body in zip(shares, bodies, strict=True)
        ]
        return [process.finish() for process in processes]
