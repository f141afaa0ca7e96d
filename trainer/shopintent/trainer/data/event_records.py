"""Records of an event log as behavior: each once, logins followed, impressions counted apart.

Two passes keep memory bounded: every file is staged as it is, and then, when all logins are known,
each staged part is written again under the shoppers that its records are about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shopintent.artifacts.event_log import IMPRESSION, LOGIN
from shopintent.trainer.data.columns import MALFORMED, raw_name
from shopintent.trainer.data.mapping import FileFormat
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.data.read import read_log

IMPRESSIONS = "impressions"
LOGINS = "logins"
REPEATED = "records that stand in two files"
TORN = "torn lines"

IDENTITY = ("source", "sequence")
EVENT = (
    "shopper",
    "event_type",
    "event_time",
    "product_id",
    "category",
    "search_query",
    "quantity",
)
READ = (*IDENTITY, "received_at", *EVENT, "alias")


@dataclass(frozen=True)
class Part:
    """Some records of one file, staged."""

    name: str
    """Where it came from, relative to the log."""
    path: Path
    sequences: dict[str, tuple[int, int]]
    """By source the first and the last sequence in it."""


def write_behavior(
    files: Sequence[tuple[str, Path]], work: Path, out: Path, progress: Progress
) -> dict[str, int]:
    """Writes the behavior in a log's files, each under its name, as Parquet files below `out`.

    The oldest file goes first. Returns how many records are no behavior, by what they are. Raises
    PrepareError for a file that can not be read.
    """
    apart: Counter[str] = Counter({IMPRESSIONS: 0, LOGINS: 0, REPEATED: 0, TORN: 0})
    parts: list[Part] = []
    logins: list[pl.DataFrame] = []
    for name, path in files:
        if path.stat().st_size == 0:
            continue
        for batch in read_log(path, FileFormat(), READ, progress):
            rows = batch.rows.collect()
            whole = _typed(rows.filter(~pl.col(MALFORMED)))
            new = _not_in(whole.unique(IDENTITY, keep="first", maintain_order=True), parts)
            kinds = Counter(new["event_type"].to_list())
            apart[TORN] += len(rows) - len(whole)
            apart[REPEATED] += len(whole) - len(new)
            apart[IMPRESSIONS] += kinds[IMPRESSION]
            apart[LOGINS] += kinds[LOGIN]
            logins.append(new.filter(pl.col("event_type") == LOGIN))
            parts.append(_stage(new, name, work / f"part-{len(parts):05d}.parquet"))
    known = _known_logins(logins)
    for number, part in enumerate(parts):
        progress("follow logins", number + 1, len(parts))
        _write_part(part, known, out / f"{part.name}-{number:05d}.parquet")
    return dict(apart)


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns READ; texts but for the numbers that name and order records."""
    return rows.select(
        pl.col(raw_name("source")).alias("source"),
        pl.col(raw_name("sequence")).cast(pl.Int64).alias("sequence"),
        pl.col(raw_name("received_at")).cast(pl.Float64).alias("received_at"),
        *(pl.col(raw_name(name)).alias(name) for name in (*EVENT, "alias")),
    )


def _not_in(rows: pl.DataFrame, parts: Iterable[Part]) -> pl.DataFrame:
    """Returns the records that no part holds; parts of other sequences need no look."""
    spans = _spans(rows)
    for part in parts:
        if any(_overlap(span, part.sequences.get(source)) for source, span in spans.items()):
            held = pl.read_parquet(part.path, columns=list(IDENTITY))
            rows = rows.join(held, on=IDENTITY, how="anti", maintain_order="left")
    return rows


def _spans(rows: pl.DataFrame) -> dict[str, tuple[int, int]]:
    sequence = pl.col("sequence")
    spans = rows.group_by("source").agg(sequence.min().alias("first"), sequence.max().alias("last"))
    return {source: (first, last) for source, first, last in spans.iter_rows()}


def _overlap(one: tuple[int, int], other: tuple[int, int] | None) -> bool:
    return other is not None and one[0] <= other[1] and other[0] <= one[1]


def _stage(rows: pl.DataFrame, name: str, path: Path) -> Part:
    rows.write_parquet(path)
    return Part(name, path, _spans(rows))


def _known_logins(logins: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Returns from when on an alias means which shopper: alias, received_at, joined, in order.

    What the alias did before its first login is that shopper's, too.
    """
    columns = ["alias", "received_at", pl.col("shopper").alias("joined")]
    if not logins:
        return pl.DataFrame(
            schema={"alias": pl.String, "received_at": pl.Float64, "joined": pl.String}
        )
    known = pl.concat(logins).sort("received_at", "sequence").select(columns)
    first = known.unique("alias", keep="first", maintain_order=True)
    ever = first.with_columns(pl.lit(float("-inf")).alias("received_at"))
    return pl.concat([ever, known])


def _write_part(part: Part, logins: pl.DataFrame, path: Path) -> None:
    """Writes a part's behavior, in the order of the log; nothing where there is none."""
    no_behavior = pl.col("event_type").is_in([IMPRESSION, LOGIN])
    rows = pl.read_parquet(part.path).filter(~no_behavior).sort("received_at", "sequence")
    if rows.is_empty():
        return
    followed = rows.join_asof(
        logins,
        on="received_at",
        by_left="shopper",
        by_right="alias",
        strategy="backward",
        check_sortedness=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    followed.with_columns(pl.coalesce("joined", "shopper").alias("shopper")).select(
        EVENT
    ).write_parquet(path)
