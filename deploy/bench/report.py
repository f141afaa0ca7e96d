"""Tells what a bench found: on the terminal, as Markdown, and against what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

Json = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """A ratio, how good it must be and how good it should be."""

    ratio: str
    what: str
    bar: float
    goal: float
    lower_is_better: bool = False

    def judge(self, value: float) -> str:
        """Returns "goal", "bar" or "below the bar"."""
        sign = -1 if self.lower_is_better else 1
        if value * sign >= self.goal * sign:
            return "goal"
        return "bar" if value * sign >= self.bar * sign else "below the bar"


WANTED = (
    Wanted(
        "predict_intent_vs_triton_at_64",
        "PredictIntent / direct Triton, rps at 64 in flight",
        bar=0.75,
        goal=1.0,
    ),
    Wanted(
        "predict_intent_added_p50_ms_at_1",
        "PredictIntent - direct Triton, p50 ms at 1 in flight",
        bar=0.8,
        goal=0.4,
        lower_is_better=True,
    ),
    Wanted(
        "recommend_vs_predict_intent_at_64",
        "Recommend / PredictIntent, rps at 64 in flight",
        bar=0.6,
        goal=0.8,
    ),
    Wanted(
        "recommend_p99_ms_half_peak_50k",
        "Recommend p99 ms at half of its peak, 50k products",
        bar=25.0,
        goal=15.0,
        lower_is_better=True,
    ),
    Wanted(
        "recommend_p99_ms_half_peak_1m",
        "Recommend p99 ms at half of its peak, 1M products",
        bar=50.0,
        goal=30.0,
        lower_is_better=True,
    ),
    *(
        Wanted(
            f"recommend_recall_{size}",
            f"Recommend's page against an exact search, recall, {size} products",
            bar=0.98,
            goal=0.99,
        )
        for size in ("10k", "50k", "1m")
    ),
)


@dataclass(frozen=True)
class Section:
    """A table with a title."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    note: str = ""


def sections(found: Json) -> list[Section]:
    """Returns every table that there is something for."""
    made = (
        _targets(found),
        _closed(found["rows"]),
        _open(found["open_loop"]),
        _parts(found["parts_at_1"]),
        _stages(found["stages"]),
        _overload(found["overload"]),
        _growth(found["growth"]),
        _memory(found["memory_mb"]),
    )
    return [section for section in made if section.rows]


def _targets(found: Json) -> Section:
    rows = []
    for wanted in WANTED:
        if (of_rounds := found["ratios_of_rounds"].get(wanted.ratio)) is None:
            continue
        sign = "<=" if wanted.lower_is_better else ">="
        rows.append(
            (
                wanted.what,
                f"{of_rounds['median']:.2f}",
                f"{of_rounds['smallest']:.2f} to {of_rounds['largest']:.2f}",
                f"{sign} {wanted.bar:g}",
                f"{sign} {wanted.goal:g}",
                wanted.judge(of_rounds["median"]),
            )
        )
    return Section(
        "what was asked for", ("what", "median", "rounds", "bar", "goal", "reached"), rows
    )


def _closed(rows: Sequence[Json]) -> Section:
    return Section(
        "calls kept in flight",
        ("target", "products", "in flight", "rps", "p50 ms", "p99 ms", "spread", "failed, wrong"),
        [
            (
                row["target"],
                _count(row["products"]),
                f"{row['in_flight']}",
                f"{row['rps']:,.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['spread']:.0%}",
                f"{row['failed']}, {row['wrong']}",
            )
            for row in rows
        ],
        "medians of the rounds; spread = (largest - smallest rps) / median",
    )


def _open(rows: Sequence[Json]) -> Section:
    return Section(
        "Recommend at half of its peak, offered at that rate",
        ("products", "offered rps", "answered rps", "p50 ms", "p99 ms", "p99 of rounds", "wrong"),
        [
            (
                _count(row["products"]),
                f"{row['offered_rps']:,.0f}",
                f"{row['rps']:,.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['p99_ms_of_rounds']['smallest']:.1f} to "
                f"{row['p99_ms_of_rounds']['largest']:.1f}",
                f"{row['failed'] + row['wrong']}",
            )
            for row in rows
        ],
    )


def _parts(found: Json) -> Section:
    return Section(
        "one call at a time, by the differences of p50",
        ("what", "ms", "rounds"),
        [
            (
                name,
                f"{part['median']:.2f}",
                f"{part['smallest']:.2f} to {part['largest']:.2f}",
            )
            for name, part in found.items()
        ],
    )


def _stages(found: Json) -> Section:
    measured = {stage for stages in found.values() for stage in stages}
    names = sorted(measured, key=lambda name: (_STAGES.index(name) if name in _STAGES else 5, name))
    return Section(
        "milliseconds of each stage inside of the server, a call",
        ("stage", *(call.replace("_at_", " at ") for call in found)),
        [
            (
                name,
                *(
                    f"{stages[name]['ms_per_call']:.3f}" if name in stages else ""
                    for stages in found.values()
                ),
            )
            for name in names
        ]
        if any(found.values())
        else [],
        "on average; stages that wait overlap with other calls, so at 64 they are mostly waiting",
    )


def _overload(rows: Sequence[Json]) -> Section:
    lines: dict[str, Callable[[Json], str]] = {
        "calls offered a second": lambda row: f"{row['offered_rps']:,.0f}",
        "calls answered a second": lambda row: f"{row['answered_rps']:,.0f}",
        "deadline, ms": lambda row: f"{row['deadline_ms']:g}",
        "accepted": lambda row: f"{row['accepted_share']:.1%}",
        "accepted, p50 ms": lambda row: _ms(row["accepted_p50_ms"]),
        "accepted, p99 ms": lambda row: _ms(row["accepted_p99_ms"]),
        "refused (RESOURCE_EXHAUSTED)": lambda row: f"{row['refused_share']:.1%}",
        "refused, p50 ms": lambda row: _ms(row["refused_p50_ms"]),
        "refused, p99 ms": lambda row: _ms(row["refused_p99_ms"]),
        "refused, with RetryInfo": lambda row: _share(row["refused_with_retry_info"]),
        "probes made late, p99 ms": lambda row: _ms(row["probes_late_p99_ms"]),
        "whole answers again after, ms": lambda row: f"{row['recovered_after_s'] * 1e3:.0f}",
        "anything else": lambda row: (
            ", ".join(f"{name} {share:.1%}" for name, share in row["other"].items()) or "none"
        ),
    }
    return Section(
        "at three times the peak",
        ("what", *(row["target"] for row in rows)),
        [(name, *(say(row) for row in rows)) for name, say in lines.items()] if rows else [],
        "shares and times are those of single calls beside the load",
    )


def _growth(rows: Sequence[Json]) -> Section:
    return Section(
        "events of every visitor",
        ("events", "target", "in flight", "rps", "p50 ms", "p99 ms", "spread"),
        [
            (
                f"{row['events']}",
                row["target"],
                f"{row['in_flight']}",
                f"{row['rps']:,.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['spread']:.0%}",
            )
            for row in rows
        ],
    )


def _memory(found: Json) -> Section:
    names = list(found["after_start"])
    return Section(
        "memory in MB",
        ("process", *(moment.replace("_", " ") for moment in found)),
        [(name, *(f"{found[moment][name]:,.0f}" for moment in found)) for name in names],
    )


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def show(console: Console, shown: Sequence[Section]) -> None:
    """Prints tables."""
    for section in shown:
        table = Table(title=section.title, title_justify="left", caption=section.note or None)
        for column in section.columns:
            table.add_column(column, justify=_align(section, column))
        for row in section.rows:
            table.add_row(*row)
        console.print(table)


def markdown(found: Json, shown: Sequence[Section]) -> str:
    """Returns tables as Markdown, with what they were measured on."""
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"Measured at commit {found['commit']} by `{found['command']}` on {machine['cores']} cores "
        f"of {machine['cpu']} ({versions}).",
        "",
    ]
    for section in shown:
        lines += [f"**{section.title[0].upper()}{section.title[1:]}**", ""]
        lines.append(f"| {' | '.join(section.columns)} |")
        rules = [_RULES[_align(section, column)] for column in section.columns]
        lines.append(f"| {' | '.join(rules)} |")
        lines += [f"| {' | '.join(row)} |" for row in section.rows]
        lines += ["", *([f"{section.note}.", ""] if section.note else [])]
    return "\n".join(lines)


_STAGES = ("validate", "session", "tokens", "model", "index", "answer", "rest", "call")
_RULES = {"left": "---", "right": "---:"}
_LEFT = ("what", "target", "reached", "other", "stage", "process", "store", "servers")


def _align(section: Section, column: str) -> Any:
    return "left" if column in _LEFT else "right"
