"""What `shopintent-server releases` prints: plain text for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from shopintent.artifacts.metrics import MetricRow
from shopintent.artifacts.routing import Routing, Share
from shopintent.server.releases.manager import ReleaseStatus

NOTHING = "-"


def releases_table(
    releases: Sequence[ReleaseStatus],
    damaged: Mapping[str, str],
    elsewhere: Sequence[str],
    routing: Routing | None,
) -> str:
    """Returns the releases, a line each, then what there is to say of others, and the routing.

    Those elsewhere are published to a URL, and brought here when they are to take part.
    """
    rows = [
        (
            each.manifest.release_id,
            moment(each.manifest.created_at),
            " ".join(each.roles) or NOTHING,
            f"{each.manifest.n_products:,}",
            gates(each.manifest.metrics),
            each.manifest.parent or NOTHING,
        )
        for each in releases
    ]
    table = columns([("RELEASE", "PUBLISHED", "PART", "PRODUCTS", "GATES PASSED", "PARENT"), *rows])
    wrong = [f"{release_id} cannot be used: {why}" for release_id, why in damaged.items()]
    others = [f"published, and not fetched yet: {', '.join(elsewhere)}"] if elsewhere else []
    return "\n".join([*table, *wrong, *others, "", routing_text(routing)])


def release_text(status: ReleaseStatus) -> str:
    """Returns what is known of a release."""
    manifest = status.manifest
    data, code = manifest.data, manifest.code
    facts = [
        ("release", manifest.release_id),
        ("published", moment(manifest.created_at)),
        ("part", " ".join(status.roles) or NOTHING),
        ("parent", manifest.parent or NOTHING),
        ("trained on", f"{day(data.first_event_time)} to {day(data.cut_time)}"),
        ("code", f"{code.package} {code.commit or ''}".strip()),
        ("precision", manifest.precision),
        ("products", f"{manifest.n_products:,}"),
        ("tokenizer", manifest.behavior_fingerprint[:12]),
        ("forced", manifest.forced or NOTHING),
        ("gates", gates(manifest.metrics)),
    ]
    metrics = [_metric(row) for row in status.deciding_metrics]
    return "\n".join([*columns(facts), *([""] if metrics else []), *columns(metrics)])


def routing_text(routing: Routing | None) -> str:
    """Returns who is answered by what, and who made it so."""
    if routing is None:
        return "no release serves yet: publish one, or promote one of these"
    parts = [f"{routing.serving} serves"]
    if routing.canary is not None:
        parts.append(f"{_share(routing.canary)} of the visitors are answered by the canary")
    if routing.shadow is not None:
        parts.append(f"{_share(routing.shadow)} are asked of the shadow too")
    if routing.previous is not None:
        parts.append(f"{routing.previous} is kept ready to roll back to")
    lines = [f"generation {routing.generation}: {'; '.join(parts)}"]
    if routing.change is not None:
        change = routing.change
        forced = ", forced" if change.forced else ""
        lines.append(
            f"{change.action} {change.release_id} by {printable(change.who)}, "
            f"{moment(change.at)}{forced}: {printable(change.why)}"
        )
    return "\n".join(lines)


def audit_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns the changes, a line each."""
    rows = [
        (
            str(entry.get("generation", "")),
            moment(str(entry.get("at", ""))),
            str(entry.get("action", "")),
            str(entry.get("release_id", "")),
            printable(str(entry.get("who", ""))),
            printable(str(entry.get("why", ""))) + (" (forced)" if entry.get("forced") else ""),
        )
        for entry in entries
    ]
    return "\n".join(columns([("GENERATION", "WHEN", "WHAT", "RELEASE", "WHO", "WHY"), *rows]))


def release_json(status: ReleaseStatus) -> dict[str, Any]:
    """Returns a release for programs: its manifest without the lists of files and popularity."""
    left_out = ("files", "popularity", "signatures", "metrics")
    manifest = {
        name: each for name, each in asdict(status.manifest).items() if name not in left_out
    }
    metrics = [
        {**asdict(row), "name": row.name, "failure": row.failure} for row in status.deciding_metrics
    ]
    return {**manifest, "roles": status.roles, "metrics": metrics}


def gates(metrics: Sequence[MetricRow]) -> str:
    """Returns how many gates a release passed, in words."""
    gated = [row for row in metrics if row.gate is not None]
    if not gated:
        return "not evaluated" if not metrics else NOTHING
    passed = sum(row.failure is None for row in gated)
    return f"{passed} of {len(gated)}"


def _metric(row: MetricRow) -> tuple[str, ...]:
    interval = f"{row.ci[0]:.4g} to {row.ci[1]:.4g}" if row.ci else NOTHING
    gate = str(row.gate) if row.gate else NOTHING
    verdict = "" if row.gate is None else "passed" if row.failure is None else "FAILED"
    return (row.name, f"{row.value:.4g}", interval, gate, verdict)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def moment(text: str) -> str:
    """Returns an RFC 3339 time to the second in UTC; what is none is left as it is."""
    try:
        when = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return printable(text) or NOTHING
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def day(unix_s: int) -> str:
    """Returns the day of a time in unix seconds, UTC."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d}"


def printable(text: str) -> str:
    """Returns a text from outside in one line, with nothing that moves a terminal's cursor."""
    return "".join(each if each.isprintable() else " " for each in text)


def _share(share: Share) -> str:
    return f"{share.percent:g} % ({share.release_id})"
