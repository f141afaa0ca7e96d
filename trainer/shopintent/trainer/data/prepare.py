"""Prepares a log for training: read, clean, sessionize, label, and report every row dropped.

Two passes keep memory bounded: files are staged as marked events, then ranges of shoppers are
sorted and labeled one at a time, each small enough for memory.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import polars as pl

from shopintent.behavior import EVENT_TYPES
from shopintent.trainer.data import clean
from shopintent.trainer.data.coarse_times import (
    COARSE_WARNING,
    ORDER_WARNING,
    cleaning_of,
    is_coarse,
    with_times_of_order,
)
from shopintent.trainer.data.columns import ROW
from shopintent.trainer.data.labels import with_labels
from shopintent.trainer.data.mapping import Mapping
from shopintent.trainer.data.prepared import (
    EVENT_SCHEMA,
    EVENTS_FILE,
    FORMAT_VERSION,
    PRODUCTS_FILE,
    SESSION_SCHEMA,
    SESSIONS_FILE,
    Dataset,
    DatasetInfo,
    is_dataset,
)
from shopintent.trainer.data.products import (
    final_products,
    merge_products,
    products_in_events,
    read_catalog,
    with_catalog,
    with_known,
)
from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.data.read import PrepareError
from shopintent.trainer.data.report import REMEDIES, Report
from shopintent.trainer.data.sessions import OUTCOMES, sessions_of, with_session_ids
from shopintent.trainer.data.sift import bots_among, without_duplicates
from shopintent.trainer.data.stage import StagedFile, mostly_dropped, stage_files

__all__ = ["PrepareError", "prepare"]

ROWS_A_PART = 1_000_000


@dataclass(frozen=True)
class Part:
    """A range of shoppers after cleaning and labeling; events and sessions are on disk."""

    products: pl.DataFrame
    n_sessions: int
    n_duplicates: int
    n_bot_events: int
    n_bots: int


def prepare(
    log: Path,
    mapping: Mapping,
    out: Path,
    progress: Progress = silent,
    *,
    now: int | None = None,
    rows_a_part: int = ROWS_A_PART,
    known: Sequence[pl.DataFrame] = (),
    apart: MappingType[str, int] = MappingProxyType({}),
) -> Dataset:
    """Prepares the log folder (or one file) into the dataset folder `out` and returns it.

    Events later than `now` (unix seconds, the present unless told) are in the future. Products of
    the tables `known` (PRODUCT_SCHEMA) are added, the first table that has one counts. `apart` is
    what the report tells of records that were left out before. Writes all or nothing; an existing
    dataset is replaced. Raises PrepareError.
    """
    _check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        work, dataset = Path(folder), Path(folder) / "dataset"
        dataset.mkdir()
        moment = int(time.time()) if now is None else now
        staged = stage_files(log, mapping, work, moment, progress)
        catalog: pl.DataFrame | None = None
        catalog_problems: dict[str, int] = {}
        if mapping.catalog is not None:
            root = log.parent if log.is_file() else log
            catalog, catalog_problems = read_catalog(root, mapping.catalog, mapping, progress)
        _check_usable(log, mapping, staged)
        coarse = is_coarse(_usable(staged)) and not mapping.ordered
        cleaning = cleaning_of(mapping, coarse=coarse)
        parts = _label_parts(
            staged, replace(mapping, cleaning=cleaning), work, rows_a_part, progress
        )
        products, n_foreign = final_products(
            with_catalog(merge_products([part.products for part in parts]), catalog)
        )
        if known:
            products, more_foreign = with_known(products, known)
            n_foreign += more_foreign
        products.write_parquet(dataset / PRODUCTS_FILE)
        _join_parts(work, dataset, len(parts))
        notes = {**catalog_problems, "prices in another currency than most": n_foreign}
        remarks = [COARSE_WARNING] * coarse + [ORDER_WARNING] * mapping.ordered
        report = replace(_report(staged, parts, dataset, notes, remarks), apart=dict(apart))
        _check_kept(log, report)
        report.save(dataset)
        _info(mapping, report, parts, dataset).save(dataset)
        _replace(dataset, out, work)
    return Dataset.open(out)


def _check_target(out: Path) -> None:
    if out.exists() and not is_dataset(out) and not (out.is_dir() and not any(out.iterdir())):
        raise PrepareError(
            f"{out}: exists and is no prepared dataset; give another folder or remove it."
        )


def _check_usable(log: Path, mapping: Mapping, staged: list[StagedFile]) -> None:
    if not any(file.report.rows_usable for file in staged):
        dropped = Counter[str]()
        for file in staged:
            dropped.update(file.report.dropped)
        reasons = "; ".join(f"{n:,} {reason}" for reason, n in dropped.most_common())
        raise PrepareError(f"{log}: nothing is left ({reasons}); correct {mapping.origin}.")


def _replace(dataset: Path, out: Path, work: Path) -> None:
    if out.exists():
        out.rename(work / "replaced")
    dataset.rename(out)


def _usable(staged: list[StagedFile]) -> pl.LazyFrame:
    paths = [path for file in staged for path in sorted(file.folder.iterdir())]
    return pl.scan_parquet(paths).filter(pl.col("reason").is_null())


def _label_parts(
    staged: list[StagedFile], mapping: Mapping, work: Path, rows_a_part: int, progress: Progress
) -> list[Part]:
    usable = _usable(staged)
    parts: list[Part] = []
    first_session = 0
    ranges = _shopper_ranges(usable, rows_a_part)
    for number, (first, last) in enumerate(ranges):
        progress("label", number, len(ranges))
        in_range = pl.col("shopper_id").is_between(pl.lit(first), pl.lit(last))
        rows = usable.filter(in_range).collect()
        part = _label_part(rows, mapping, work, number, first_session)
        first_session += part.n_sessions
        parts.append(part)
    progress("label", len(ranges), len(ranges))
    return parts


def _shopper_ranges(usable: pl.LazyFrame, rows_a_part: int) -> list[tuple[str, str]]:
    """Returns ranges of shopper ids, in order, of about rows_a_part rows each."""
    shoppers = usable.group_by("shopper_id").agg(pl.len()).collect().sort("shopper_id")
    part = (pl.col("len").cum_sum() - 1) // rows_a_part
    ranges = shoppers.group_by(part.alias("part"), maintain_order=True).agg(
        pl.col("shopper_id").first().alias("first"), pl.col("shopper_id").last().alias("last")
    )
    return list(ranges.select("first", "last").iter_rows())


def _label_part(
    rows: pl.DataFrame, mapping: Mapping, work: Path, number: int, first_session: int
) -> Part:
    # Where times are coarse, events of one session stay together.
    session = ["raw_session"] if mapping.session.rule == "column" else []
    keys = ["shopper_id", "event_time", *session, "order", "file", ROW]
    ordered = rows.sort(keys, nulls_last=True, maintain_order=True)
    if mapping.ordered:
        step_minutes = max(source.time.step_minutes for source in mapping.sources)
        ordered = with_times_of_order(ordered, step_minutes)
    unique = without_duplicates(ordered, mapping.cleaning)
    bots = bots_among(unique, mapping.cleaning)
    human = unique.join(bots, on="shopper_id", how="anti", maintain_order="left")
    events = with_labels(with_session_ids(human, mapping.session, first_session))
    sessions = sessions_of(events)
    events.select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items()).write_parquet(
        work / f"events-{number:05d}.parquet"
    )
    sessions.select(
        pl.col(name).cast(dtype) for name, dtype in SESSION_SCHEMA.items()
    ).write_parquet(work / f"sessions-{number:05d}.parquet")
    return Part(
        products=products_in_events(events),
        n_sessions=len(sessions),
        n_duplicates=len(ordered) - len(unique),
        n_bot_events=len(unique) - len(human),
        n_bots=len(bots),
    )


def _join_parts(work: Path, dataset: Path, n_parts: int) -> None:
    for name, file in (("events", EVENTS_FILE), ("sessions", SESSIONS_FILE)):
        paths = [work / f"{name}-{number:05d}.parquet" for number in range(n_parts)]
        pl.scan_parquet(paths).sink_parquet(dataset / file)


def _report(
    staged: list[StagedFile],
    parts: list[Part],
    dataset: Path,
    notes: dict[str, int],
    remarks: list[str],
) -> Report:
    dropped = Counter({reason: 0 for reason in clean.REASONS})
    warnings = list(remarks)
    for file in staged:
        dropped.update(file.report.dropped)
        warnings += [
            f"{file.report.file}: {n:,} {what}." for what, n in file.report.warnings.items()
        ]
        warnings += [
            f'{file.report.file}: {n:,} rows of unknown event type "{value}"; '
            + REMEDIES[clean.UNKNOWN_EVENT_TYPE]
            for value, n in file.report.unknown_event_types.items()
        ]
    dropped[clean.DUPLICATE] = sum(part.n_duplicates for part in parts)
    dropped[clean.BOT] = sum(part.n_bot_events for part in parts)
    warnings += [f"{n:,} {what}." for what, n in notes.items() if n]
    warnings += [
        f"{n:,} rows dropped as {reason}: {REMEDIES[reason]}"
        for reason, n in dropped.items()
        if n and reason in (clean.TIME_OUT_OF_RANGE, clean.UNREADABLE_TIME, clean.MALFORMED_LINE)
    ]
    if n_bots := sum(part.n_bots for part in parts):
        warnings.append(f"{n_bots:,} shoppers were taken for bots: {REMEDIES[clean.BOT]}")
    types = _value_counts(dataset / EVENTS_FILE, "event_type")
    outcomes = _value_counts(dataset / SESSIONS_FILE, "outcome")
    return Report(
        rows_in=sum(file.report.rows_in for file in staged),
        rows_out=sum(types.values()),
        dropped=dict(dropped),
        files=tuple(file.report for file in staged),
        warnings=tuple(warnings),
        event_types={name: types[name] for name in EVENT_TYPES if name in types},
        outcomes={name: outcomes[name] for name in OUTCOMES if name in outcomes},
    )


def _value_counts(path: Path, column: str) -> dict[str, int]:
    return dict(pl.scan_parquet(path).group_by(column).agg(pl.len()).collect().iter_rows())


def _check_kept(log: Path, report: Report) -> None:
    # mapping errors show up here as well: a constant time or id makes everything a duplicate.
    for reason in (clean.DUPLICATE, clean.BOT):
        if report.dropped[reason] * 2 > report.rows_in:
            raise PrepareError(
                mostly_dropped(str(log), reason, report.dropped[reason], report.rows_in, ())
            )
    if report.rows_out == 0:
        raise PrepareError(f"{log}: all shoppers were taken for bots; {REMEDIES[clean.BOT]}")


def _info(mapping: Mapping, report: Report, parts: list[Part], dataset: Path) -> DatasetInfo:
    events = pl.scan_parquet(dataset / EVENTS_FILE)
    first, last, n_shoppers = (
        events.select(
            pl.col("event_time").min().alias("first"),
            pl.col("event_time").max().alias("last"),
            pl.col("shopper_id").n_unique(),
        )
        .collect()
        .row(0)
    )
    products = pl.scan_parquet(dataset / PRODUCTS_FILE).select("currency").collect()
    return DatasetInfo(
        format_version=FORMAT_VERSION,
        mapping=mapping.name,
        event_types=tuple(report.event_types),
        observed_from=int(first),
        observed_until=int(last),
        session_rule=mapping.session.rule,
        session_gap_s=round(mapping.session.gap_minutes * 60),
        currency=str(products["currency"].max() or ""),
        n_events=report.rows_out,
        n_sessions=sum(part.n_sessions for part in parts),
        n_shoppers=int(n_shoppers),
        n_products=len(products),
    )
