"""Tells what the comparison found: on the terminal, and as Markdown for BENCHMARKS.md."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.bench.peers.behaviors import WITH_EVENTS
from deploy.bench.targets import PREDICT_INTENT

Json = dict[str, Any]

BAR, GOAL = 2.0, 4.0
"""How many times as much we are to answer as the best peer, at 64 in flight."""
OURS = {
    PREDICT_INTENT: "**shopintent** PredictIntent, events tracked before",
    WITH_EVENTS: "**shopintent** PredictIntent, events in the request",
}


def show(console: Console, found: Json) -> None:
    """Prints the tables."""
    table = Table(title="one shopper's behavior in, one prediction out", title_justify="left")
    head, *lines = _table(found)
    for number, title in enumerate(head):
        table.add_column(title, justify="left" if number == 0 else "right")
    for line in lines:
        table.add_row(*(cell.replace("**", "") for cell in line))
    console.print(table)
    for sentence in _sentences(found):
        console.print(sentence.replace("**", ""))


def markdown(found: Json) -> str:
    """Returns the report."""
    head, *lines = _table(found)
    machine = found["machine"]
    made = (
        f"`{found['command']}`, commit {found['commit']}, {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gb']} GB, h2load on the same cores. "
        f"{found['events']} events of each of {found['visitors']} visitors, "
        f"{found['rounds']} rounds of {found['seconds']:g} s a cell."
    )
    rule = ["---", *["--:"] * (len(head) - 1)]
    written = ["# PredictIntent and what a team would otherwise write", made]
    written.append("\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines)))
    return "\n\n".join([*written, *_sentences(found)]) + "\n"


def _table(found: Json) -> list[list[str]]:
    """Returns the head and the lines: a target a line, what it does in every load beside it."""
    rows = {(row["target"], row["in_flight"]): row for row in found["rows"]}
    loads = sorted({in_flight for _, in_flight in rows})
    head = ["", *(f"{load} in flight: calls/s" for load in loads)]
    head += [f"p50 / p99 ms at {load}" for load in loads] + ["spread", "MB"]
    lines = [head]
    for target in dict.fromkeys(target for target, _ in rows):
        cells = [rows[target, load] for load in loads]
        memory = found["memory_mb"].get(PREDICT_INTENT if target in OURS else target)
        lines.append(
            [
                _title(found, target),
                *(f"{cell['rps']:,.0f}" for cell in cells),
                *(f"{cell['p50_ms']:.1f} / {cell['p99_ms']:.1f}" for cell in cells),
                f"{max(cell['spread'] for cell in cells):.0%}",
                f"{memory:,.0f}" if memory else "",
            ]
        )
    return lines


def _title(found: Json, target: str) -> str:
    if target in OURS:
        return OURS[target]
    peer = found["peers"][target]
    return f"{peer['title']} {peer['version']} ({peer['settings']})"


def _sentences(found: Json) -> list[str]:
    sentences = [
        f"{name}: **{each['median']:.2f}** ({each['smallest']:.2f} to {each['largest']:.2f})"
        + _judgement(name, each["median"])
        for name, each in found["ratios_of_rounds"].items()
        if "_vs_best_peer_" in name
    ]
    furthest = max(found["differences"].values(), default=0.0)
    sentences.append(f"Answers differ from onnxruntime's own by {furthest:.1e} at most.")
    failed = {row["target"]: row["failed"] for row in found["rows"] if row["failed"]}
    if failed:
        sentences.append(f"Calls that failed: {failed}.")
    return sentences


def _judgement(name: str, value: float) -> str:
    if name != f"{PREDICT_INTENT}_vs_best_peer_at_64":
        return ""
    judged = "goal" if value >= GOAL else "bar" if value >= BAR else "below the bar"
    return f", {judged} (bar {BAR:g}, goal {GOAL:g})"
