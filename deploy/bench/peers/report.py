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
    PREDICT_INTENT: "shopintent",
    WITH_EVENTS: "shopintent, events sent",
}


def show(console: Console, found: Json) -> None:
    """Prints the table and what it means."""
    head, *lines = _table(found)
    table = Table(title="PredictIntent and its peers", title_justify="left")
    for number, title in enumerate(head):
        table.add_column(title, justify="left" if number == 0 else "right")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for sentence in _sentences(found):
        console.print(sentence.replace("**", "").replace("`", ""))


def markdown(found: Json) -> str:
    """Returns the report."""
    head, *lines = _table(found)
    machine = found["machine"]
    made = (
        f"`{found['command']}`, commit {found['commit']}, {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gb']} GB, h2load on the same cores. "
        f"{found['visitors']:,} visitors with {found['events']} events each, "
        f"rounds: {found['rounds']}, of {found['seconds']:g} s a cell; medians, and the largest "
        "spread of calls/s."
    )
    rule = ["---", *["--:"] * (len(head) - 1)]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))
    sentences = "\n".join(f"- {sentence}" for sentence in _sentences(found))
    return f"# PredictIntent and its peers\n\n{made}\n\n{rows}\n\n{sentences}\n"


def _table(found: Json) -> list[list[str]]:
    """Returns the head and the lines: a target a line, what it does in every load beside it."""
    rows = {(row["target"], row["in_flight"]): row for row in found["rows"]}
    loads = sorted({in_flight for _, in_flight in rows})
    head = ["in flight", *(f"{load}: calls/s" for load in loads)]
    head += [f"{load}: p50 / p99 ms" for load in loads]
    head += [f"{loads[-1]}: CPU ms a call", "spread", "MB"]
    lines = [head]
    for target in dict.fromkeys(target for target, _ in rows):
        cells = [rows[target, load] for load in loads]
        memory = found["memory_mb"].get(PREDICT_INTENT if target in OURS else target)
        lines.append(
            [
                OURS[target] if target in OURS else found["peers"][target]["title"],
                *(f"{cell['rps']:,.0f}" for cell in cells),
                *(f"{cell['p50_ms']:.1f} / {cell['p99_ms']:.1f}" for cell in cells),
                f"{cells[-1]['cpu_ms']:.2f}",
                f"{max(cell['spread'] for cell in cells):.0%}",
                f"{memory:,.0f}" if memory else "",
            ]
        )
    return lines


def _sentences(found: Json) -> list[str]:
    sentences = [
        f"`{name}`: **{each['median']:.2f}** ({each['smallest']:.2f} to {each['largest']:.2f})"
        + _judgement(name, each["median"])
        for name, each in found["ratios_of_rounds"].items()
        if "_vs_best_peer_" in name
    ]
    sentences += [
        f"{peer['title']} {peer['version']}: {peer['settings']}, the best of "
        + "; ".join(
            f"{settings}: {rps:,.0f}/s" for settings, rps in peer["tried_rps_at_64"].items()
        )
        for peer in found["peers"].values()
    ]
    sentences.append(
        "shopintent finds the events that it was sent before under the visitor's id; peers, and "
        '"shopintent, events sent", get all of them with every request.'
    )
    furthest = max(found["differences"].values(), default=0.0)
    sentences.append(f"Answers differ from onnxruntime's own by at most {furthest:.0e}.")
    failed = {row["target"]: row["failed"] for row in found["rows"] if row["failed"]}
    if failed:
        sentences.append(f"Calls that failed: {failed}.")
    return sentences


def _judgement(name: str, value: float) -> str:
    if name != f"{PREDICT_INTENT}_vs_best_peer_at_64":
        return ""
    judged = "goal" if value >= GOAL else "bar" if value >= BAR else "below the bar"
    return f", {judged} (bar {BAR:g}, goal {GOAL:g})"
