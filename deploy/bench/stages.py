"""What each stage of an answer costs, by the server's own metrics."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

STAGE = "shopintent_stage_duration_seconds"
CALL = "rpc_server_call_duration_seconds"
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Totals:
    """How often something happened, and how long it took together."""

    count: float
    total_s: float


Counted = Mapping[str, Totals]
"""By stage; "call" is the whole call."""


def read(metrics_address: str) -> Counted:
    """Returns what a server has counted since it started."""
    with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=TIMEOUT_S) as answer:
        return parse(answer.read().decode())


def parse(page: str) -> Counted:
    """Returns the totals on a page of metrics."""
    counts: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(page):
        if family.name not in (STAGE, CALL):
            continue
        for sample in family.samples:
            what = sample.labels.get("stage", "call")
            kind = sample.name.removeprefix(f"{family.name}_")
            counts[what, kind] = counts.get((what, kind), 0.0) + sample.value
    names = {what for what, kind in counts if kind == "sum"}
    return {name: Totals(counts[name, "count"], counts[name, "sum"]) for name in sorted(names)}


def between(before: Counted, after: Counted) -> dict[str, dict[str, float]]:
    """Returns, by stage, its milliseconds per call and how often a call had it.

    "rest" is what the stages of a call do not account for inside of the server.
    """
    spent = {
        name: Totals(
            totals.count - (before[name].count if name in before else 0.0),
            totals.total_s - (before[name].total_s if name in before else 0.0),
        )
        for name, totals in after.items()
    }
    calls = spent.pop("call", Totals(0.0, 0.0))
    if not calls.count:
        return {}
    table = {
        name: {
            "ms_per_call": round(totals.total_s / calls.count * 1e3, 4),
            "times_per_call": round(totals.count / calls.count, 3),
        }
        for name, totals in spent.items()
        if totals.count > 0
    }
    rest_s = calls.total_s - sum(spent[name].total_s for name in table)
    table["rest"] = {"ms_per_call": round(rest_s / calls.count * 1e3, 4), "times_per_call": 1.0}
    table["call"] = {
        "ms_per_call": round(calls.total_s / calls.count * 1e3, 4),
        "times_per_call": 1.0,
    }
    return table
