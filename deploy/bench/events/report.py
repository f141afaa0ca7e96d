"""Tells what the bench of tracking found: on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.bench.events.options import MEMORY
from deploy.bench.report import Json, Section

WANTED_P99_MS = 50.0
"""From tracking to a changed answer, for one visitor at a time."""


def sections(found: Json) -> list[Section]:
    """Returns every table."""
    return [_wanted(found["fresh"]), _tracked(found["rows"]), _fresh(found["fresh"])]


def reached(row: Json) -> bool:
    """Returns whether answers knew in time, and all of them."""
    return bool(row["p99_ms"] < WANTED_P99_MS and row["stale"] == 0)


def _wanted(rows: Sequence[Json]) -> Section:
    return Section(
        "what was asked for",
        ("what", "p99 ms", "asked for", "reached"),
        [
            (
                f"track to changed answer, {row['store']}, {row['servers']}",
                f"{row['p99_ms']:.1f}",
                f"< {WANTED_P99_MS:g}",
                "yes" if reached(row) else "no",
            )
            for row in rows
            if row["what"] == "freshness" and row["at_once"] == 1
        ],
    )


def _tracked(rows: Sequence[Json]) -> Section:
    return Section(
        "calls kept in flight",
        (
            *("what", "store", "in flight", "events/s", "calls/s", "p50 ms", "p99 ms"),
            *("ratio", "of rounds", "failed, wrong"),
        ),
        [
            (
                row["what"],
                row["store"],
                f"{row['in_flight']}",
                f"{row['events_per_s']:,.0f}" if row["events_per_s"] else "",
                f"{row['rps']:,.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['rps_to_predict_intent']['median']:.2f}",
                f"{row['rps_to_predict_intent']['smallest']:.2f} to "
                f"{row['rps_to_predict_intent']['largest']:.2f}",
                f"{row['failed']}, {row['wrong']}",
            )
            for row in rows
        ],
        "medians of the rounds; ratio = calls/s to those of predict_intent in the same round; "
        f"events are on the disk when a call is answered, unless the store is {MEMORY}",
    )


def _fresh(rows: Sequence[Json]) -> Section:
    return Section(
        "until an answer knows an event",
        (
            *("what", "store", "servers", "visitors at once", "trials", "p50 ms", "p99 ms"),
            *("largest ms", "stale, untold"),
        ),
        [
            (
                row["what"],
                row["store"],
                row["servers"],
                f"{row['at_once']}",
                f"{row['trials']:,}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['largest_ms']:.2f}",
                f"{row['stale']}, {row['undecidable']}",
            )
            for row in rows
        ],
        "freshness is TrackEvents and PredictIntent one after the other, from a Python client; "
        "stale are answers that did not know the event, untold those over which a second passed",
    )
