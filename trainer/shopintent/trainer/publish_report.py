"""What `publish` says when it is done."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.markup import escape
from rich.table import Table

from shopintent.artifacts import Manifest
from shopintent.artifacts.metrics import failed_gates
from shopintent.trainer.publish import Published

MB = 1_000_000


def summary(published: Published, to: str) -> Table:
    """Returns a table of what was published and what serves now."""
    manifest = published.manifest
    table = Table(title=f"release {manifest.release_id}", show_header=False, title_justify="left")
    size = sum(file.size for file in manifest.files)
    rows = {
        "in": to,
        "files": f"{len(manifest.files)}, {size / MB:,.1f} MB, each with its SHA-256",
        "products": f"{manifest.n_products:,}",
        "learned from": " to ".join(
            datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
            for time in (manifest.data.first_event_time, manifest.data.last_event_time)
        ),
        "made by": f"shopintent {manifest.code.package}, commit "
        f"{manifest.code.commit or 'unknown'}",
        "precision": precision(manifest),
        "gates": gates(manifest),
        "parent": manifest.parent or "none",
        "traffic": "all of it, from now on" if published.serving else
        f"none, until `shopintent-server releases promote {manifest.release_id}`",
    }  # fmt: skip
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def precision(manifest: Manifest) -> str:
    """Returns that of the intent model, and what it costs, in words."""
    prefix = f"{manifest.precision}_"
    lost = [row for row in manifest.metrics if row.metric.startswith(prefix)]
    measured = "; ".join(f"{row.name.removeprefix(prefix)} {row.value:+.4f}" for row in lost)
    return f"{manifest.precision}: {measured}" if lost else manifest.precision


def gates(manifest: Manifest) -> str:
    """Returns how the evaluation went, in words."""
    if not manifest.metrics:
        return "not checked: the run was published without `shopintent-trainer evaluate`"
    failures = failed_gates(manifest.metrics)
    n_gates = sum(row.gate is not None for row in manifest.metrics)
    if not failures:
        return f"all {n_gates} passed"
    return f"{len(failures)} of {n_gates} failed, forced: {manifest.forced}. " + "; ".join(failures)
